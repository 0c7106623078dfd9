"""Jobs: the runs of stages, from the claim to the result or the dead letter."""
