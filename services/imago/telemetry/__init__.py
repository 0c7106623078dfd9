"""Logs, metrics, health checks and traces."""
