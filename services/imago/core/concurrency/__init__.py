"""Coordination of concurrent work: batches in one process, leases among processes."""
