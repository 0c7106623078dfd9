"""Alembic's entry point; `imago.db.migrations.upgrade` is the only way here."""

from alembic import context
from sqlalchemy import Connection

from imago.db.tables import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
# The transaction, and the lock in it, are the caller's.
context.run_migrations()
