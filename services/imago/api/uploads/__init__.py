"""Receiving uploads."""
