"""Uploads: the intent before the first byte, the acceptance after the last."""
