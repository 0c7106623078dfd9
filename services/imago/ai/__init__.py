"""Providers that describe images, read text, summarize pages and draft tasks: AI services, and offline ones."""
