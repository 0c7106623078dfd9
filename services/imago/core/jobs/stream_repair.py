"""The database's side of upkeep: leases of chores, stages whose message is lost, graves of objects, used-up keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from imago.core.images.locks import lock_image
from imago.core.jobs.stages import OPEN_STATUSES, Stage
from imago.core.outbox import rows as outbox_rows
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.core.times import utc_now
from imago.core.uploads.intents import replace_by_tombstones
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, idempotency_keys, image_stages, leases, outbox, tombstones, upload_intents


@dataclass(frozen=True)
class OpenStage:
    """A stage that isn't over, and where its message was put; `stream` is None where it was never noted."""

    image_id: int
    stage: Stage
    run: int
    epoch: int
    stream: str | None
    sequence: int | None
    message_id: str | None


@dataclass(frozen=True)
class Grave:
    """An object to delete."""

    id: int
    object_key: str
    final_at: datetime


async def take_lease(db: Database, name: str, holder: str, *, ttl: timedelta) -> bool:
    """Take or renew the lease of a chore; False while another holder has it."""
    now = utc_now()
    insert = sqlite.insert if db.is_sqlite else postgresql.insert
    statement = insert(leases).values(name=name, holder=holder, until=now + ttl)
    statement = statement.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"holder": holder, "until": now + ttl},
        where=sa.or_(leases.c.holder == holder, leases.c.until < now),
    )
    async with db.write(SYSTEM) as connection:
        taken = await connection.execute(statement)
    return taken.rowcount == 1


async def drop_leases(db: Database, holder: str) -> None:
    """Give a holder's leases back, so that other processes needn't wait for their end."""
    async with db.write(SYSTEM) as connection:
        await connection.execute(sa.delete(leases).where(leases.c.holder == holder))


async def find_open_stages(
    db: Database, *, quiet_for: timedelta, limit: int, after: tuple[int, str] = (0, "")
) -> list[OpenStage]:
    """Return stages that should have a message: open, due, not leased, published a while ago, and not in the outbox.

    Pages by the key (image, stage): pass the last one's as `after`.
    """
    now = utc_now()
    queued = sa.exists().where(
        outbox.c.image_id == image_stages.c.image_id,
        outbox.c.stage == image_stages.c.stage,
        outbox.c.kind == OutboxKind.WORK,
    )
    key = sa.tuple_(image_stages.c.image_id, image_stages.c.stage)
    query = (
        sa.select(image_stages)
        .where(
            image_stages.c.status.in_([str(status) for status in OPEN_STATUSES]),
            sa.or_(image_stages.c.published_at.is_(None), image_stages.c.published_at < now - quiet_for),
            sa.or_(image_stages.c.lease_until.is_(None), image_stages.c.lease_until < now),
            sa.or_(image_stages.c.due_at.is_(None), image_stages.c.due_at < now - quiet_for),
            ~queued,
            key > sa.tuple_(sa.literal(after[0]), sa.literal(after[1])),
        )
        .order_by(image_stages.c.image_id, image_stages.c.stage)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        return [open_stage(row) for row in await connection.execute(query)]


async def find_by_sequence(db: Database, stream: str, sequence: int) -> OpenStage | None:
    """Return the open stage whose message lies there."""
    query = sa.select(image_stages).where(
        image_stages.c.stream == stream,
        image_stages.c.sequence == sequence,
        image_stages.c.status.in_([str(status) for status in OPEN_STATUSES]),
    )
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(query)).first()
    return None if row is None else open_stage(row)


async def republish(db: Database, found: OpenStage) -> OutboxRow | None:
    """Announce a run again under its next epoch; None where it went on meanwhile."""
    async with db.write(SYSTEM) as connection:
        locked = await lock_image(connection, found.image_id)
        if locked is None:
            return None
        image, _ = locked
        moved = await connection.execute(
            sa.update(image_stages)
            .where(
                image_stages.c.image_id == found.image_id,
                image_stages.c.stage == found.stage,
                image_stages.c.run == found.run,
                image_stages.c.epoch == found.epoch,
                image_stages.c.status.in_([str(status) for status in OPEN_STATUSES]),
            )
            .values(epoch=found.epoch + 1, stream=None, sequence=None, message_id=None)
        )
        if moved.rowcount != 1:
            return None
        # Not the lane it had: the client may have changed its own since.
        lane = str(await connection.scalar(sa.select(clients.c.lane).where(clients.c.id == image.client_id)))
        draft = outbox_rows.work(image, found.stage, run=found.run, epoch=found.epoch + 1, lane=lane, headers={})
        (row,) = await outbox_rows.add(connection, draft)
        return row


async def expire_intents(db: Database) -> int:
    """Bury the objects of uploads that were never finished; return how many."""
    now = utc_now()
    async with db.write(SYSTEM) as connection:
        return await replace_by_tombstones(connection, upload_intents.c.expires_at < now, now=now)


async def expire_idempotency_keys(db: Database) -> int:
    """Forget Idempotency-Keys past their time; return how many."""
    async with db.write(SYSTEM) as connection:
        done = await connection.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.expires_at < utc_now()))
    return done.rowcount


async def due_graves(db: Database, *, limit: int) -> list[Grave]:
    """Return objects to delete now."""
    query = sa.select(tombstones).where(tombstones.c.due_at <= utc_now()).order_by(tombstones.c.due_at).limit(limit)
    async with db.read(SYSTEM) as connection:
        return [Grave(row.id, row.object_key, row.final_at) for row in await connection.execute(query)]


async def close_graves(db: Database, graves: Sequence[Grave]) -> None:
    """Note that objects were deleted: graves past their last time are gone, the others wait for it."""
    now = utc_now()
    over = [grave.id for grave in graves if grave.final_at <= now]
    again = [grave.id for grave in graves if grave.final_at > now]
    async with db.write(SYSTEM) as connection:
        if over:
            await connection.execute(sa.delete(tombstones).where(tombstones.c.id.in_(over)))
        if again:
            await connection.execute(
                sa.update(tombstones).where(tombstones.c.id.in_(again)).values(due_at=tombstones.c.final_at)
            )


async def postpone_graves(db: Database, graves: Sequence[Grave], delay: timedelta) -> None:
    """Leave objects for later that can't be deleted now, so that they don't stand in the way of the others."""
    if graves:
        async with db.write(SYSTEM) as connection:
            await connection.execute(
                sa.update(tombstones)
                .where(tombstones.c.id.in_([grave.id for grave in graves]))
                .values(due_at=utc_now() + delay)
            )


def open_stage(row: sa.Row[tuple[object, ...]]) -> OpenStage:
    """Build an open stage from a row of `image_stages`."""
    return OpenStage(row.image_id, Stage(row.stage), row.run, row.epoch, row.stream, row.sequence, row.message_id)
