"""Authentication, permissions and rate limits of requests."""
