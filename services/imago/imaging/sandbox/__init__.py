"""Child processes that decode hostile bytes: the pool, the child and its tasks."""
