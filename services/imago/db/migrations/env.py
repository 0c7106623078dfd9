"""Alembic's entry point, called only by `imago.db.migrations.upgrade`."""

from alembic import context
from sqlalchemy import Connection

from imago.db.tables import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
# The caller holds the lock and commits the transaction.
context.run_migrations()
