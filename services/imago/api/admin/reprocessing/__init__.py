"""Routes for reprocess jobs."""
