"""Providers of vision and text models: one protocol, and an adapter per vendor API."""
