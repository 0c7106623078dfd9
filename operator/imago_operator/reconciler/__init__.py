"""Reconciling an ImagoClient: its client in Imago, its key and Secret, its lane and workers, and its deletion."""
