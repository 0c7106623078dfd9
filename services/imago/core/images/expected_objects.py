"""What the database knows of objects in storage, for comparing the two."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from imago.core.images.model import thumbnail_key_beside
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, images, tombstones, upload_intents

_PAGE = 1000


@dataclass(frozen=True)
class ExpectedObject:
    """An object that an image needs."""

    key: str
    image_id: int


async def expected_objects(db: Database) -> AsyncIterator[ExpectedObject]:
    """Give the objects of all images, in the order of their keys as long as all have one prefix."""
    async with db.read(SYSTEM) as connection:
        owners = (await connection.execute(sa.select(clients.c.id, clients.c.uuid).order_by(clients.c.uuid))).all()
    for owner in owners:
        last: UUID | None = None
        while rows := await _page(db, owner.id, last):
            for row in rows:
                yield ExpectedObject(row.object_key, row.id)
                if row.thumbnail_key is not None:
                    yield ExpectedObject(row.thumbnail_key, row.id)
            last = rows[-1].uuid


@dataclass(frozen=True)
class _Row:
    id: int
    uuid: UUID
    object_key: str
    thumbnail_key: str | None


async def _page(db: Database, client_id: int, last: UUID | None) -> list[_Row]:
    query = (
        sa.select(images.c.id, images.c.uuid, images.c.object_key, images.c.thumbnail_key)
        .where(images.c.client_id == client_id)
        .order_by(images.c.uuid)
        .limit(_PAGE)
    )
    if last is not None:
        query = query.where(images.c.uuid > last)
    async with db.read(SYSTEM) as connection:
        return [_Row(*row) for row in await connection.execute(query)]


async def still_expected(db: Database, expected: ExpectedObject) -> bool:
    """Tell whether an image needs the object at this moment."""
    query = sa.select(sa.literal(1)).where(
        images.c.id == expected.image_id,
        sa.or_(images.c.object_key == expected.key, images.c.thumbnail_key == expected.key),
    )
    async with db.read(SYSTEM) as connection:
        return await connection.scalar(query) is not None


async def known_objects(db: Database, keys: Sequence[str]) -> set[str]:
    """Return which of the keys belong to an image, an upload under way or a grave.

    A thumbnail beside a known original is known, although its image may not have it yet: a worker stores it first.
    """
    owners = {key: key.rsplit("/", 1)[0] + "/original" for key in keys}
    wanted = sorted({*keys, *owners.values()})
    queries = (
        sa.select(images.c.object_key).where(images.c.object_key.in_(wanted)),
        sa.select(upload_intents.c.object_key).where(upload_intents.c.object_key.in_(wanted)),
        sa.select(tombstones.c.object_key).where(tombstones.c.object_key.in_(wanted)),
    )
    async with db.read(SYSTEM) as connection:
        found = {key for query in queries for key in await connection.scalars(query)}
    return {key for key in keys if key in found or (owners[key] in found and key == thumbnail_key_beside(owners[key]))}
