"""Signed URLs of local storage."""
