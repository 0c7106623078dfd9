"""The objects that the database expects in storage, for the storage audit."""

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
    """Yield the objects of all images, ordered by key if all keys have the same prefix."""
    async with db.read(SYSTEM) as connection:
        all_clients = (await connection.execute(sa.select(clients.c.id, clients.c.uuid).order_by(clients.c.uuid))).all()
    for client in all_clients:
        last: UUID | None = None
        while rows := await _page(db, client.id, last):
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
    """Return whether an image still needs the object."""
    query = sa.select(sa.literal(1)).where(
        images.c.id == expected.image_id,
        sa.or_(images.c.object_key == expected.key, images.c.thumbnail_key == expected.key),
    )
    async with db.read(SYSTEM) as connection:
        return await connection.scalar(query) is not None


async def known_objects(db: Database, keys: Sequence[str]) -> set[str]:
    """Return which of the keys belong to an image, an intent or a tombstone.

    A thumbnail next to a known original is known even if its image's row doesn't name it yet: a worker stores the
    object before it commits its result.
    """
    originals = {key: key.rsplit("/", 1)[0] + "/original" for key in keys}
    candidates = sorted({*keys, *originals.values()})
    queries = (
        sa.select(images.c.object_key).where(images.c.object_key.in_(candidates)),
        sa.select(upload_intents.c.object_key).where(upload_intents.c.object_key.in_(candidates)),
        sa.select(tombstones.c.object_key).where(tombstones.c.object_key.in_(candidates)),
    )
    async with db.read(SYSTEM) as connection:
        found = {key for query in queries for key in await connection.scalars(query)}
    return {
        key for key in keys if key in found or (originals[key] in found and key == thumbnail_key_beside(originals[key]))
    }
