"""The progress of a job: it queues one image in a transaction, and counts those whose runs have ended.

The job's cursor moves in the transaction that starts the runs, and only forward. A crash, a restart or a second runner
therefore neither repeats an image nor leaves one out.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.changes import start_runs
from imago.core.images.locks import lock_image
from imago.core.jobs.stages import OPEN_STATUSES, Priority, StageStatus
from imago.core.outbox.model import OutboxRow
from imago.core.reprocessing.model import ReprocessJob
from imago.core.reprocessing.pace import following
from imago.core.reprocessing.selecting import Matching, stages_to_run
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import image_stages, reprocess_jobs, reprocess_runs
from imago.runtime import failpoints

# Images whose end one transaction counts.
_ENDED = 500


async def queue_image(
    db: Database, job: ReprocessJob, wanted: Matching, image_id: int, *, headers: Mapping[str, str]
) -> tuple[OutboxRow, ...] | None:
    """Start the runs of one image, and move the cursor to it; return the rows to publish.

    Returns no rows if the image was deleted or no longer matches, and None if the job was suspended or deleted, or
    another runner has moved its cursor.
    """
    now = utc_now()
    async with db.write(SYSTEM) as connection:
        row = await _lock_job(connection, job.id)
        if row is None or row.suspended or row.cursor >= image_id:
            return None
        rows = await _start(connection, job, wanted, image_id, headers=headers)
        queued: dict[str, object] = {}
        if rows:
            next_at = following(now, next_at=row.next_at, images_per_minute=row.images_per_minute)
            queued = {"queued": reprocess_jobs.c.queued + 1, "next_at": next_at, "progress_at": now}
        await _update(connection, job.id, {"cursor": image_id, **queued})
        failpoints.reach("reprocess.starting")
    failpoints.reach("reprocess.queued")
    return rows


async def move_cursor(db: Database, job: ReprocessJob, to: int) -> bool:
    """Move the cursor forward over images that do not match; return False if another runner has, or the job ended."""
    async with db.write(SYSTEM) as connection:
        row = await _lock_job(connection, job.id)
        if row is None or row.suspended or row.cursor >= to:
            return False
        await _update(connection, job.id, {"cursor": to, "progress_at": utc_now()})
        return True


async def unfinished_images(db: Database, job: ReprocessJob, *, now: datetime) -> int:
    """Return how many queued images have a run that has not ended, without those that are parked."""
    query = (
        sa.select(sa.func.count(reprocess_runs.c.image_id.distinct()))
        .join(image_stages, _IS_RUN)
        .where(
            reprocess_runs.c.job_id == job.id,
            image_stages.c.run == reprocess_runs.c.run,
            image_stages.c.status.in_(_OPEN),
            sa.or_(image_stages.c.due_at.is_(None), image_stages.c.due_at <= now),
        )
    )
    async with db.read(SYSTEM) as connection:
        return int(await connection.scalar(query) or 0)


async def count_ended(db: Database, job: ReprocessJob) -> int:
    """Count images whose runs have ended, and complete the job after the last one; return the number of images."""
    ended = await _ended_images(db, job)
    finished = not job.is_queueing and len(ended) < _ENDED
    if not ended and not finished:
        return 0
    async with db.write(SYSTEM) as connection:
        if await _lock_job(connection, job.id) is None:
            return 0
        counted = await _forget_runs(connection, job.id, ended)
        changes: dict[str, object] = {
            name: reprocess_jobs.c[name] + sum(outcome == name for outcome in counted) for name in _OUTCOMES
        }
        if counted:
            changes["progress_at"] = utc_now()
        if finished and await _all_ended(connection, job.id):
            changes["completed_at"] = utc_now()
        await _update(connection, job.id, changes)
        failpoints.reach("reprocess.counting")
    return len(counted)


_OUTCOMES = ("done", "failed", "cancelled")
_OPEN = [str(status) for status in OPEN_STATUSES]
_IS_RUN = sa.and_(image_stages.c.image_id == reprocess_runs.c.image_id, image_stages.c.stage == reprocess_runs.c.stage)


async def _start(
    connection: AsyncConnection, job: ReprocessJob, wanted: Matching, image_id: int, *, headers: Mapping[str, str]
) -> tuple[OutboxRow, ...]:
    locked = await lock_image(connection, image_id)
    stages = [] if locked is None else await stages_to_run(connection, wanted, image_id)
    if locked is None or not stages:
        return ()
    rows = await start_runs(connection, locked[0], stages, headers=headers, priority=Priority.BACKGROUND)
    works = [row.work for row in rows if row.work is not None]
    await connection.execute(
        sa.insert(reprocess_runs),
        [{"job_id": job.id, "image_id": image_id, "stage": work.stage, "run": work.run} for work in works],
    )
    return rows


async def _ended_images(db: Database, job: ReprocessJob) -> dict[int, str]:
    """Return the outcomes of images none of whose runs is open, by image id."""

    def any_stage(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.max(sa.case((condition, 1), else_=0))

    current = image_stages.c.run == reprocess_runs.c.run
    query = (
        sa.select(
            reprocess_runs.c.image_id,
            any_stage(sa.and_(current, image_stages.c.status == StageStatus.DEAD)).label("failed"),
            any_stage(sa.or_(image_stages.c.run.is_(None), ~current)).label("cancelled"),
        )
        .join(image_stages, _IS_RUN, isouter=True)
        .where(reprocess_runs.c.job_id == job.id)
        .group_by(reprocess_runs.c.image_id)
        .having(any_stage(sa.and_(current, image_stages.c.status.in_(_OPEN))) == 0)
        .limit(_ENDED)
    )
    async with db.read(SYSTEM) as connection:
        rows = (await connection.execute(query)).all()
    return {row.image_id: "failed" if row.failed else "cancelled" if row.cancelled else "done" for row in rows}


async def _forget_runs(connection: AsyncConnection, job_id: int, ended: Mapping[int, str]) -> Sequence[str]:
    """Delete the runs of ended images; return the outcomes of the images that had any."""
    if not ended:
        return []
    deleted = await connection.scalars(
        sa.delete(reprocess_runs)
        .where(reprocess_runs.c.job_id == job_id, reprocess_runs.c.image_id.in_(sorted(ended)))
        .returning(reprocess_runs.c.image_id)
    )
    return [ended[image_id] for image_id in set(deleted)]


async def _all_ended(connection: AsyncConnection, job_id: int) -> bool:
    left = sa.select(sa.literal(1)).where(reprocess_runs.c.job_id == job_id).limit(1)
    return await connection.scalar(left) is None


async def _lock_job(connection: AsyncConnection, job_id: int) -> Any:
    """Lock a job before any image; return its row unless it was deleted or is completed."""
    query = sa.select(reprocess_jobs).where(reprocess_jobs.c.id == job_id, reprocess_jobs.c.completed_at.is_(None))
    return (await connection.execute(query.with_for_update())).one_or_none()


async def _update(connection: AsyncConnection, job_id: int, values: Mapping[str, object]) -> None:
    await connection.execute(sa.update(reprocess_jobs).where(reprocess_jobs.c.id == job_id).values(**values))
