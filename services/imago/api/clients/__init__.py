"""Routes that administer clients and their keys."""
