"""Open stages whose message is missing from its stream, and their republication."""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from imago.core.images.locks import lock_image
from imago.core.jobs.stages import OPEN_STATUSES, Stage
from imago.core.outbox.drafts import draft_work
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.core.outbox.rows import insert_drafts
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, image_stages, outbox

IS_OPEN = image_stages.c.status.in_([str(status) for status in OPEN_STATUSES])

# Such a stage has no message yet.
IN_OUTBOX = sa.exists().where(
    outbox.c.image_id == image_stages.c.image_id,
    outbox.c.stage == image_stages.c.stage,
    outbox.c.kind == OutboxKind.WORK,
)


@dataclass(frozen=True)
class OpenStage:
    """A stage that has not ended, and the position of its message; `stream` is None before it is published."""

    image_id: int
    stage: Stage
    run: int
    epoch: int
    stream: str | None
    sequence: int | None
    message_id: str | None


async def find_open_stages(
    db: Database, *, quiet_for: timedelta, limit: int, after: tuple[int, str] = (0, "")
) -> list[OpenStage]:
    """Return stages that should have a message: open, due, not leased, not in the outbox, published `quiet_for` ago.

    Pages are ordered by (image, stage): pass the last key of a page as `after`.
    """
    now = utc_now()
    key = sa.tuple_(image_stages.c.image_id, image_stages.c.stage)
    query = (
        sa.select(image_stages)
        .where(
            IS_OPEN,
            sa.or_(image_stages.c.published_at.is_(None), image_stages.c.published_at < now - quiet_for),
            sa.or_(image_stages.c.lease_until.is_(None), image_stages.c.lease_until < now),
            sa.or_(image_stages.c.due_at.is_(None), image_stages.c.due_at < now - quiet_for),
            ~IN_OUTBOX,
            key > sa.tuple_(sa.literal(after[0]), sa.literal(after[1])),
        )
        .order_by(image_stages.c.image_id, image_stages.c.stage)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        return [open_stage(row) for row in await connection.execute(query)]


async def find_by_sequence(db: Database, stream: str, sequence: int) -> OpenStage | None:
    """Return the open stage whose message has this sequence number in the stream, or None."""
    query = sa.select(image_stages).where(image_stages.c.stream == stream, image_stages.c.sequence == sequence, IS_OPEN)
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(query)).first()
    return None if row is None else open_stage(row)


async def republish(db: Database, found: OpenStage) -> OutboxRow | None:
    """Add a run to the outbox again under its next epoch; return None if its stage has changed since `found`."""
    async with db.write(SYSTEM) as connection:
        locked = await lock_image(connection, found.image_id)
        if locked is None:
            return None
        image, _ = locked
        updated = await connection.execute(
            sa.update(image_stages)
            .where(
                image_stages.c.image_id == found.image_id,
                image_stages.c.stage == found.stage,
                image_stages.c.run == found.run,
                image_stages.c.epoch == found.epoch,
                IS_OPEN,
            )
            .values(epoch=found.epoch + 1, stream=None, sequence=None, message_id=None)
        )
        if updated.rowcount != 1:
            return None
        # The client may have changed its lane since the stage was published.
        lane = str(await connection.scalar(sa.select(clients.c.lane).where(clients.c.id == image.client_id)))
        draft = draft_work(image, found.stage, run=found.run, epoch=found.epoch + 1, lane=lane, headers={})
        (row,) = await insert_drafts(connection, draft)
        return row


def open_stage(row: sa.Row[tuple[object, ...]]) -> OpenStage:
    """Build an OpenStage from a row of `image_stages`."""
    return OpenStage(row.image_id, Stage(row.stage), row.run, row.epoch, row.stream, row.sequence, row.message_id)
