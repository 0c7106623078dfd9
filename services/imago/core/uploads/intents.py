"""Intents: an upload commits one before its first byte is stored, so every object without an image is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.model import thumbnail_key_beside
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.prepared import PreparedStatement
from imago.db.tables import tombstones, upload_intents

_INSERT = PreparedStatement(
    sa.insert(upload_intents).returning(upload_intents.c.id, upload_intents.c.image_uuid),
    columns=("client_id", "image_uuid", "object_key", "created_at", "expires_at"),
)


@dataclass(frozen=True)
class NewIntent:
    """The object that an upload is about to store, and how long the upload may take."""

    image: UUID
    object_key: str
    ttl: timedelta


async def insert_intents(
    connection: AsyncConnection, client_id: int, intents: Sequence[NewIntent], *, now: datetime
) -> dict[UUID, int]:
    """Insert intents of a client and return their ids by the images' UUIDs."""
    rows = await _INSERT.fetchmany(
        connection,
        [
            {
                "client_id": client_id,
                "image_uuid": intent.image,
                "object_key": intent.object_key,
                "created_at": now,
                "expires_at": now + intent.ttl,
            }
            for intent in intents
        ],
    )
    return {row.image_uuid: int(row.id) for row in rows}


async def abandon_upload(db: Database, intent_id: int) -> bool:
    """Replace an upload's intent by tombstones: its objects are deleted now and again after the intent's expiry.

    Return False if the intent is gone: either the image was accepted (and only the response to the commit was lost), or
    the object cleaner took the intent first. In both cases the caller must not delete the object.
    """
    async with db.write(SYSTEM) as connection:
        return await replace_by_tombstones(connection, upload_intents.c.id == intent_id, now=utc_now()) == 1


async def replace_by_tombstones(
    connection: AsyncConnection, condition: sa.ColumnElement[bool], *, now: datetime
) -> int:
    """Replace intents by tombstones for their originals and inline thumbnails; return the number of intents."""
    # Ordered by id, as a batch of acceptances deletes them; otherwise the two could deadlock.
    await connection.execute(
        sa.select(upload_intents.c.id).where(condition).order_by(upload_intents.c.id).with_for_update()
    )
    deleted = await connection.execute(
        sa.delete(upload_intents).where(condition).returning(upload_intents.c.object_key, upload_intents.c.expires_at)
    )
    rows = deleted.all()
    values = [
        {"object_key": key, "created_at": now, "due_at": now, "final_at": max(row.expires_at, now)}
        for row in rows
        for key in (row.object_key, thumbnail_key_beside(row.object_key))
    ]
    if values:
        await connection.execute(sa.insert(tombstones), values)
    return len(rows)
