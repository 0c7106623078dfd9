"""Lanes: the queue priorities of work."""
