"""The migrations, one history for PostgreSQL and SQLite, and the one way to run them.

Several replicas may migrate at once: on PostgreSQL an advisory lock lets one do it while the others wait and then find
nothing to do; on SQLite the database's own write lock does.
"""

import asyncio
import contextlib
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database.engine import Database, DatabaseUnavailable, mapped_errors

# Any constant will do that nobody else uses: the first eight bytes of sha256("imago migrations"), as a signed bigint.
_ADVISORY_LOCK = 7756009011210278635


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def head() -> str:
    """Return the revision that this version of the code needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("there is no migration")
    return revision


async def current(db: Database) -> str | None:
    """Return the revision that the database is at; None for an empty one."""
    async with db.read() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def upgrade(db: Database, *, runtime_role: str | None = None) -> None:
    """Bring the schema to the newest revision; safe to run in several processes at once, nothing to do on a newer one.

    On PostgreSQL `runtime_role`, where given, may read and write the tables afterwards and own nothing. Raises
    DatabaseUnavailable, and ValueError where there is no such role.
    """
    async with mapped_errors(), db.engine.connect() as connection:
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
        raise ValueError(f"DATABASE_RUNTIME_ROLE: there is no role {role!r}")
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {quoted}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
        # The schema's revision is the migrations' alone to write.
        f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {quoted}",
    ):
        await connection.execute(sa.text(statement))


async def wait_for_schema(db: Database, *, timeout: float, poll: float = 0.5) -> None:
    """Wait until the schema is at the revision this code needs or a later one; raise TimeoutError otherwise.

    A database that is away is waited for, too.
    """
    async with asyncio.timeout(timeout):
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                if await _is_new_enough(db):
                    return
            await asyncio.sleep(poll)


async def _is_new_enough(db: Database) -> bool:
    revision = await current(db)
    # A revision that we don't know is a newer release's, which keeps the previous one working.
    return revision is not None and (revision == head() or revision not in _known())


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _upgrade(connection: sa.Connection) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in _known():
        # A newer release migrated it, and this one was rolled back to: it works on the newer schema as it is.
        return
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
