"""Tombstones: objects to delete from storage because their image or upload no longer exists."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import tombstones


@dataclass(frozen=True)
class Tombstone:
    """An object to delete.

    It is deleted a second time at `final_at`, because a late writer may store it again until then.
    """

    id: int
    object_key: str
    final_at: datetime


async def due_tombstones(db: Database, *, limit: int) -> list[Tombstone]:
    """Return tombstones that are due, the oldest first."""
    query = sa.select(tombstones).where(tombstones.c.due_at <= utc_now()).order_by(tombstones.c.due_at).limit(limit)
    async with db.read(SYSTEM) as connection:
        return [Tombstone(row.id, row.object_key, row.final_at) for row in await connection.execute(query)]


async def mark_objects_deleted(db: Database, deleted: Sequence[Tombstone]) -> None:
    """Remove the tombstones of deleted objects that are past `final_at`, and make the others due then."""
    now = utc_now()
    final = [tombstone.id for tombstone in deleted if tombstone.final_at <= now]
    repeated = [tombstone.id for tombstone in deleted if tombstone.final_at > now]
    async with db.write(SYSTEM) as connection:
        if final:
            await connection.execute(sa.delete(tombstones).where(tombstones.c.id.in_(final)))
        if repeated:
            await connection.execute(
                sa.update(tombstones).where(tombstones.c.id.in_(repeated)).values(due_at=tombstones.c.final_at)
            )


async def postpone_tombstones(db: Database, undeleted: Sequence[Tombstone], delay: timedelta) -> None:
    """Postpone objects that cannot be deleted now, so that they do not block the others."""
    if undeleted:
        async with db.write(SYSTEM) as connection:
            await connection.execute(
                sa.update(tombstones)
                .where(tombstones.c.id.in_([tombstone.id for tombstone in undeleted]))
                .values(due_at=utc_now() + delay)
            )
