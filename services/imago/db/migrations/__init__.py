"""The migrations for PostgreSQL and SQLite, in one history, and the function that runs them.

Several replicas may migrate concurrently: an advisory lock on PostgreSQL, or the write lock of SQLite, lets one of them
migrate while the others wait and then find nothing to do.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.db.engine import Database, translate_errors
from imago.db.schema import known_revisions
from imago.runtime.startup import StartupError

# An arbitrary constant: the first eight bytes of sha256("imago migrations"), as a signed bigint.
_ADVISORY_LOCK = 7756009011210278635


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


async def upgrade(db: Database, *, runtime_role: str | None = None) -> None:
    """Upgrade the schema to the newest revision; safe to run concurrently, does nothing on a newer schema.

    On PostgreSQL, grant `runtime_role` the right to read and write the tables, without owning them. Raises
    DatabaseUnavailable, and StartupError if the role does not exist.
    """
    async with translate_errors(), db.engine.connect() as connection:
        if db.is_sqlite:
            await connection.execution_options(imago_write=True)
        async with connection.begin():
            if not db.is_sqlite:
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                # Row-level security also applies to the owner of the tables.
                await connection.execute(sa.select(sa.func.set_config("imago.scope", "system", True)))
            await connection.run_sync(_upgrade)
            if runtime_role is not None and not db.is_sqlite:
                await _grant(connection, runtime_role)


async def _grant(connection: AsyncConnection, role: str) -> None:
    exists = sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :role")
    if not await connection.scalar(exists, {"role": role}):
        raise StartupError(f"DATABASE_RUNTIME_ROLE: role {role!r} does not exist")
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {quoted}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
        # Only migrations may write the revision.
        f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {quoted}",
    ):
        await connection.execute(sa.text(statement))


def _upgrade(connection: sa.Connection) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in known_revisions():
        # A newer release migrated the schema, and this release was rolled back to: it can use the newer schema.
        return
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
