"""Which schema the database has and which this code needs; without Alembic, which takes long to import."""

import asyncio
import contextlib
from pathlib import Path

import sqlalchemy as sa

from imago.db.engine import Database, DatabaseUnavailable

_VERSIONS = Path(__file__).parent / "migrations" / "versions"
_REVISION = sa.table("alembic_version", sa.column("version_num", sa.String))


def known_revisions() -> list[str]:
    """Return the revisions that this version of the code knows, in their order; their files' names begin with them."""
    return sorted(path.stem.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py"))


def head_revision() -> str:
    """Return the revision that this version of the code needs."""
    return known_revisions()[-1]


async def current_revision(db: Database) -> str | None:
    """Return the revision that the database is at; None for an empty one."""
    async with db.read() as connection:
        if not await connection.run_sync(lambda sync: sa.inspect(sync).has_table(_REVISION.name)):
            return None
        revision: str | None = await connection.scalar(sa.select(_REVISION.c.version_num))
        return revision


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
    revision = await current_revision(db)
    # A revision that we don't know is a newer release's, which keeps the previous one working.
    return revision is not None and (revision == head_revision() or revision not in known_revisions())
