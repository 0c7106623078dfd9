"""Erasure of clients with all of their data, in steps that any process can resume, with a progress report."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from imago.core.clients import audit
from imago.core.clients.audit import IMAGO, Actor, AuditAction
from imago.core.clients.queries import matches
from imago.core.errors import NotFound
from imago.core.images.changes import erase_image
from imago.core.images.locks import lock_image
from imago.core.outbox.model import OutboxKind
from imago.core.outbox.rows import lock_rows
from imago.core.times import iso_utc, utc_now
from imago.core.uploads.intents import replace_by_tombstones
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, images, outbox, tombstones, upload_intents


@dataclass(frozen=True)
class Erasure:
    """The progress of an erasure; `objects_left` are still in storage, `messages` have been purged."""

    requested_at: str
    images_total: int
    images_erased: int = 0
    objects_left: int = 0
    messages: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the form that the client's row stores."""
        return asdict(self)


@dataclass(frozen=True)
class ErasingClient:
    """A client that is being erased."""

    id: int
    uuid: UUID
    progress: Erasure


async def request_erasure(db: Database, ref: int | UUID, *, by: Actor) -> None:
    """Deactivate a client and request its erasure; a second request changes nothing. Raises NotFound."""
    now = utc_now()
    async with db.write(SYSTEM) as connection:
        query = sa.select(clients).where(matches(ref)).with_for_update(key_share=True)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound("No such client.")
        if row.erase_requested_at is not None:
            return
        total = await connection.scalar(sa.select(sa.func.count()).where(images.c.client_id == row.id))
        progress = Erasure(iso_utc(now), int(total or 0))
        await connection.execute(
            sa.update(clients)
            .where(clients.c.id == row.id)
            .values(
                active=False,
                deactivated_at=row.deactivated_at or now,
                erase_requested_at=now,
                erasure=progress.to_json(),
                updated_at=now,
            )
        )
        details = {"images": progress.images_total}
        await audit.record(connection, by, AuditAction.ERASURE_REQUESTED, client=row.uuid, details=details)


async def erasing_clients(db: Database) -> list[ErasingClient]:
    """Return the clients that are being erased, in the order of their requests."""
    query = sa.select(clients).where(clients.c.erase_requested_at.is_not(None)).order_by(clients.c.erase_requested_at)
    async with db.read(SYSTEM) as connection:
        return [ErasingClient(row.id, row.uuid, Erasure(**row.erasure)) for row in await connection.execute(query)]


async def cancel_pending(db: Database, client_id: int) -> None:
    """Cancel a client's unpublished events and its uploads, which end with 408 and leave no object."""
    async with db.write(SYSTEM) as connection:
        await replace_by_tombstones(connection, upload_intents.c.client_id == client_id, now=utc_now())
        events = sa.and_(outbox.c.client_id == client_id, outbox.c.kind != OutboxKind.WORK)
        await lock_rows(connection, events)
        await connection.execute(sa.delete(outbox).where(events))


async def erase_images(db: Database, client_id: int, *, limit: int) -> int:
    """Erase at most `limit` of a client's images, each in its own transaction; return how many."""
    async with db.read(SYSTEM) as connection:
        query = sa.select(images.c.id).where(images.c.client_id == client_id).order_by(images.c.id).limit(limit)
        ids = list(await connection.scalars(query))
    for image_id in ids:
        async with db.write(SYSTEM) as connection:
            locked = await lock_image(connection, image_id, to_delete=True)
            if locked is not None:
                await erase_image(connection, *locked, now=utc_now())
    return len(ids)


async def objects_left(db: Database, client: UUID) -> int:
    """Return how many of a client's objects with a tombstone have not been deleted yet."""
    query = (
        sa.select(sa.func.count())
        .select_from(tombstones)
        .where(tombstones.c.object_key.contains(f"{client}/"), tombstones.c.due_at < tombstones.c.final_at)
    )
    async with db.read(SYSTEM) as connection:
        return int(await connection.scalar(query) or 0)


async def save_progress(db: Database, client_id: int, progress: Erasure) -> None:
    """Save the progress of an erasure."""
    async with db.write(SYSTEM) as connection:
        await connection.execute(
            sa.update(clients).where(clients.c.id == client_id).values(erasure=progress.to_json(), updated_at=utc_now())
        )


async def finish_erasure(db: Database, client: ErasingClient, progress: Erasure) -> datetime | None:
    """Delete the client and record the report in the audit log; return when, or None if images or uploads are left.

    The lock prevents an earlier upload from being accepted concurrently, because its foreign key waits for the lock.
    """
    async with db.write(SYSTEM) as connection:
        row = await connection.scalar(sa.select(clients.c.id).where(clients.c.id == client.id).with_for_update())
        if row is None:
            return None
        for table in (images, upload_intents):
            if await connection.scalar(sa.select(sa.exists().where(table.c.client_id == client.id))):
                return None
        await connection.execute(sa.delete(clients).where(clients.c.id == client.id))
        await audit.record(connection, IMAGO, AuditAction.CLIENT_ERASED, client=client.uuid, details=progress.to_json())
    return utc_now()
