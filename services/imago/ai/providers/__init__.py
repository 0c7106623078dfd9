"""AI services: one protocol for their models, and an adapter per API."""
