"""The schema revisions of the database and of this code, without importing Alembic, which is slow to import."""

import asyncio
from pathlib import Path

import sqlalchemy as sa

from imago.db.engine import Database, DatabaseCorrupt, DatabaseUnavailable

_VERSIONS = Path(__file__).parent / "migrations" / "versions"
_REVISION = sa.table("alembic_version", sa.column("version_num", sa.String))


def known_revisions() -> list[str]:
    """Return the revisions that this version has migrations for, oldest first, from the names of the files."""
    return sorted(path.stem.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py"))


def head_revision() -> str:
    """Return the revision that this version needs."""
    return known_revisions()[-1]


async def current_revision(db: Database) -> str | None:
    """Return the revision of the database, or None if it is empty."""
    async with db.read() as connection:
        if not await connection.run_sync(lambda sync: sa.inspect(sync).has_table(_REVISION.name)):
            return None
        revision: str | None = await connection.scalar(sa.select(_REVISION.c.version_num))
        return revision


async def wait_for_schema(db: Database, *, timeout: float, poll: float = 0.5) -> None:
    """Wait until the schema has the revision that this version needs, or a later one; raise TimeoutError.

    Keeps waiting while the database is unavailable, but not if it is corrupt.
    """
    async with asyncio.timeout(timeout):
        while True:
            try:
                if await _is_new_enough(db):
                    return
            except DatabaseCorrupt:
                raise
            except DatabaseUnavailable:
                pass
            await asyncio.sleep(poll)


async def _is_new_enough(db: Database) -> bool:
    revision = await current_revision(db)
    # An unknown revision is that of a newer release, whose schema the previous release can use.
    return revision is not None and (revision == head_revision() or revision not in known_revisions())
