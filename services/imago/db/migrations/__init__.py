"""The migrations, one history for PostgreSQL and SQLite, and the one way to run them.

Several replicas may migrate at once: on PostgreSQL an advisory lock lets one do it while the others wait and then find
nothing to do; on SQLite the database's own write lock does.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.db.engine import Database, translate_errors
from imago.db.schema import known_revisions
from imago.startup import StartupError

# Any constant will do that nobody else uses: the first eight bytes of sha256("imago migrations"), as a signed bigint.
_ADVISORY_LOCK = 7756009011210278635


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


async def upgrade(db: Database, *, runtime_role: str | None = None) -> None:
    """Bring the schema to the newest revision; safe to run in several processes at once, nothing to do on a newer one.

    On PostgreSQL `runtime_role`, where given, may read and write the tables afterwards and own nothing. Raises
    DatabaseUnavailable, and StartupError if the role does not exist.
    """
    async with translate_errors(), db.engine.connect() as connection:
        if db.is_sqlite:
            await connection.execution_options(imago_write=True)
        async with connection.begin():
            if not db.is_sqlite:
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                # Row-level security binds the tables' owner too.
                await connection.execute(sa.select(sa.func.set_config("imago.scope", "system", True)))
            await connection.run_sync(_upgrade)
            if runtime_role is not None and not db.is_sqlite:
                await _grant(connection, runtime_role)


async def _grant(connection: AsyncConnection, role: str) -> None:
    known = sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :role")
    if not await connection.scalar(known, {"role": role}):
        raise StartupError(f"DATABASE_RUNTIME_ROLE: role {role!r} does not exist")
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {quoted}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
        # The schema's revision is the migrations' alone to write.
        f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {quoted}",
    ):
        await connection.execute(sa.text(statement))


def _upgrade(connection: sa.Connection) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in known_revisions():
        # A newer release migrated it, and this one was rolled back to: it works on the newer schema as it is.
        return
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
