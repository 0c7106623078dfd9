"""Health checks and the root page."""
