"""Uploads: receiving, storing and accepting files."""
