"""Ends runs of stages that the server has disabled, which no worker will take: their images would never be done."""

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.locks import lock_image
from imago.core.jobs.stage_outcomes import update_image_status
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.jobs.stream_repair import IS_OPEN
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.core.outbox.rows import insert_drafts, lock_rows
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import image_stages, images, outbox, stage_results


async def images_with_disabled_stages(
    db: Database, stages: Collection[Stage], *, quiet_for: timedelta, limit: int
) -> list[int]:
    """Return the ids of images with an open run of these stages that was published `quiet_for` ago or earlier.

    Younger ones may be of a process that still has the stage, during a rollout.
    """
    now = utc_now()
    since = sa.func.coalesce(image_stages.c.published_at, images.c.created_at)
    query = (
        sa.select(image_stages.c.image_id)
        .distinct()
        .join(images, images.c.id == image_stages.c.image_id)
        .where(*_closable(stages, now), since < sa.literal(now - quiet_for, image_stages.c.published_at.type))
        .order_by(image_stages.c.image_id)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        return list(await connection.scalars(query))


async def close_disabled_stages(db: Database, image_id: int, stages: Collection[Stage]) -> tuple[OutboxRow, ...]:
    """End the open runs of these stages of an image; return the messages to publish.

    A stage with the result of an earlier run is done, others are skipped. A worker that still has a run loses it.
    """
    now = utc_now()
    async with db.write(SYSTEM) as connection:
        locked = await lock_image(connection, image_id)
        if locked is None:
            return ()
        await _close(connection, image_id, stages, now=now)
        drafts, _ = await update_image_status(connection, *locked, now=now, headers={})
        return await insert_drafts(connection, *drafts)


async def _close(connection: AsyncConnection, image_id: int, stages: Collection[Stage], *, now: datetime) -> None:
    await lock_rows(connection, outbox.c.image_id == image_id)
    await connection.execute(
        sa.delete(outbox).where(
            outbox.c.image_id == image_id, outbox.c.kind == OutboxKind.WORK, outbox.c.stage.in_([*map(str, stages)])
        )
    )
    has_result = sa.exists().where(
        stage_results.c.image_id == image_stages.c.image_id, stage_results.c.stage == image_stages.c.stage
    )
    await connection.execute(
        sa.update(image_stages)
        .where(image_stages.c.image_id == image_id, *_closable(stages, now))
        .values(
            status=sa.case((has_result, str(StageStatus.DONE)), else_=str(StageStatus.SKIPPED)),
            claim=image_stages.c.claim + 1,
            lease_until=None,
            due_at=None,
            error_code=None,
            error_text=None,
            done_at=now,
        )
    )


def _closable(stages: Collection[Stage], now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    leased = image_stages.c.lease_until
    return (image_stages.c.stage.in_([*map(str, stages)]), IS_OPEN, sa.or_(leased.is_(None), leased < now))
