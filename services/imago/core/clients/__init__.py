"""Clients (tenants): plans, limits, keys, quotas, rate limits and the audit log."""
