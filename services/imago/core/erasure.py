"""Erasing a client: everything of it, in steps that any process may go on with, and a report on the way."""

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
    """How far the erasure of a client is; `objects_left` lie in storage still, `messages` were purged so far."""

    requested_at: str
    images_total: int
    images_erased: int = 0
    objects_left: int = 0
    messages: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what the client's row and the API show."""
        return asdict(self)


@dataclass(frozen=True)
class Doomed:
    """A client that is being erased."""

    id: int
    uuid: UUID
    progress: Erasure


async def request_erasure(db: Database, ref: int | UUID, *, by: Actor) -> None:
    """Deactivate a client and have all of it erased; asking again changes nothing. Raises NotFound."""
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


async def doomed_clients(db: Database) -> list[Doomed]:
    """Return the clients that are being erased, the one that waits longest first."""
    query = sa.select(clients).where(clients.c.erase_requested_at.is_not(None)).order_by(clients.c.erase_requested_at)
    async with db.read(SYSTEM) as connection:
        return [Doomed(row.id, row.uuid, Erasure(**row.erasure)) for row in await connection.execute(query)]


async def silence(db: Database, client_id: int) -> None:
    """Take what a client has under way: announcements not sent, and uploads, which end in 408 and leave no object."""
    async with db.write(SYSTEM) as connection:
        await replace_by_tombstones(connection, upload_intents.c.client_id == client_id, now=utc_now())
        events = sa.and_(outbox.c.client_id == client_id, outbox.c.kind != OutboxKind.WORK)
        await lock_rows(connection, events)
        await connection.execute(sa.delete(outbox).where(events))


async def erase_images(db: Database, client_id: int, *, limit: int) -> int:
    """Erase some of a client's images, each in its own transaction; return how many."""
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
    """Return how many of a client's buried objects have not been deleted once."""
    query = (
        sa.select(sa.func.count())
        .select_from(tombstones)
        .where(tombstones.c.object_key.contains(f"{client}/"), tombstones.c.due_at < tombstones.c.final_at)
    )
    async with db.read(SYSTEM) as connection:
        return int(await connection.scalar(query) or 0)


async def note_progress(db: Database, client_id: int, progress: Erasure) -> None:
    """Write down how far the erasure is."""
    async with db.write(SYSTEM) as connection:
        await connection.execute(
            sa.update(clients).where(clients.c.id == client_id).values(erasure=progress.to_json(), updated_at=utc_now())
        )


async def finish_erasure(db: Database, doomed: Doomed, progress: Erasure) -> datetime | None:
    """Delete the client itself and what still hangs on it, with the report in the audit log; None where it can't yet.

    The lock keeps an upload that began before from being accepted in between: its foreign key waits for it.
    """
    async with db.write(SYSTEM) as connection:
        row = await connection.scalar(sa.select(clients.c.id).where(clients.c.id == doomed.id).with_for_update())
        if row is None:
            return None
        for table in (images, upload_intents):
            if await connection.scalar(sa.select(sa.exists().where(table.c.client_id == doomed.id))):
                return None
        await connection.execute(sa.delete(clients).where(clients.c.id == doomed.id))
        await audit.record(connection, IMAGO, AuditAction.CLIENT_ERASED, client=doomed.uuid, details=progress.to_json())
    return utc_now()
