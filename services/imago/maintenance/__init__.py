"""Periodic tasks that keep the database, the streams and the object store consistent, and the outbox published."""
