"""Reprocess jobs as administrators see them: created, listed, changed and deleted, each with an audit record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from imago.core.clients import audit
from imago.core.clients.audit import Actor, AuditAction
from imago.core.errors import Conflict, NotFound, NothingSelected
from imago.core.reprocessing.model import DEFAULT_IMAGES_PER_MINUTE, Counts, ReprocessJob, Selection
from imago.core.reprocessing.selecting import count_matching, id_range, matching, require_clients
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import reprocess_jobs

JobRef = int | UUID


@dataclass(frozen=True)
class NewJob:
    """A job to create. With `uuid`, the same request again returns the job instead of creating a second one."""

    selection: Selection
    images_per_minute: int = DEFAULT_IMAGES_PER_MINUTE
    suspended: bool = False
    uuid: UUID | None = None


@dataclass(frozen=True)
class JobPatch:
    """The fields of a job to change; None leaves a field as it is."""

    images_per_minute: int | None = None
    suspended: bool | None = None


@dataclass(frozen=True)
class _Survey:
    """What a job would do: images with ids in (`after`, `up_to`] whose results ended before `since`."""

    since: datetime
    after: int
    up_to: int
    matched: int


async def count_selected(db: Database, selection: Selection) -> int:
    """Return the number of images that a job would match now; raise Unprocessable for an unknown client."""
    return (await _survey(db, selection, now=utc_now())).matched


async def create_job(db: Database, new: NewJob, *, by: Actor) -> ReprocessJob:
    """Create a job, or return the one that has its uuid.

    Raises NothingSelected if no image matches, Unprocessable for an unknown client, and Conflict if the uuid is that of
    a job with another selection.
    """
    if new.uuid is not None and (existing := await find_job(db, new.uuid)) is not None:
        return _same(existing, new)
    now = utc_now()
    survey = await _survey(db, new.selection, now=now)
    if not survey.matched:
        raise NothingSelected(
            "No image matches the selection, or all that match have results newer than "
            f"{survey.since.isoformat(timespec='seconds')}. Deactivated clients and stages outside of a client's "
            "pipeline do not count."
        )
    created = await _insert(db, new, survey, now=now, by=by)
    if created is None and new.uuid is not None:
        # Another request with the same uuid came first.
        return _same(await get_job(db, new.uuid), new)
    if created is None:
        raise Conflict("The job could not be created; repeat the request.")
    return created


async def get_job(db: Database, ref: JobRef) -> ReprocessJob:
    """Return a job; raise NotFound."""
    found = await find_job(db, ref)
    if found is None:
        raise NotFound("No such reprocess job.")
    return found


async def find_job(db: Database, ref: JobRef) -> ReprocessJob | None:
    """Return a job by its id or its uuid, or None."""
    async with db.read(SYSTEM) as connection:
        row = (await connection.execute(sa.select(reprocess_jobs).where(_is(ref)))).one_or_none()
    return None if row is None else job_from(row)


async def list_jobs(db: Database, *, limit: int, before: int | None = None) -> tuple[list[ReprocessJob], int | None]:
    """Return a page of jobs, newest first, and the `before` of the next page (None on the last page)."""
    query = sa.select(reprocess_jobs).order_by(reprocess_jobs.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(reprocess_jobs.c.id < before)
    async with db.read(SYSTEM) as connection:
        jobs = [job_from(row) for row in await connection.execute(query)]
    return jobs[:limit], jobs[limit - 1].id if len(jobs) > limit else None


async def unfinished_jobs(db: Database) -> list[ReprocessJob]:
    """Return the jobs that are not completed, oldest first."""
    query = sa.select(reprocess_jobs).where(reprocess_jobs.c.completed_at.is_(None)).order_by(reprocess_jobs.c.id)
    async with db.read(SYSTEM) as connection:
        return [job_from(row) for row in await connection.execute(query)]


async def patch_job(db: Database, ref: JobRef, patch: JobPatch, *, by: Actor) -> ReprocessJob:
    """Change the rate of a job, suspend or resume it; raise NotFound, and Conflict if it is completed."""
    now = utc_now()
    async with db.write(SYSTEM) as connection:
        query = sa.select(reprocess_jobs).where(_is(ref)).with_for_update()
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound("No such reprocess job.")
        wanted = {"images_per_minute": patch.images_per_minute, "suspended": patch.suspended}
        changes = {name: value for name, value in wanted.items() if value is not None and getattr(row, name) != value}
        if not changes:
            return job_from(row)
        if row.completed_at is not None:
            raise Conflict("The job is completed; create another one.")
        # The pause does not count: a resumed job starts with one image, and is not stalled.
        update = sa.update(reprocess_jobs).where(reprocess_jobs.c.id == row.id)
        changed = await connection.execute(
            update.values(**changes, next_at=now, progress_at=now).returning(reprocess_jobs)
        )
        details = {"job": str(row.uuid), **changes}
        await audit.record(connection, by, AuditAction.REPROCESS_CHANGED, details=details)
        return job_from(changed.one())


async def delete_job(db: Database, ref: JobRef, *, by: Actor) -> None:
    """Delete a job; the runs that it has queued continue. Raises NotFound."""
    async with db.write(SYSTEM) as connection:
        deleted = await connection.execute(sa.delete(reprocess_jobs).where(_is(ref)).returning(reprocess_jobs.c.uuid))
        uuid = deleted.scalar_one_or_none()
        if uuid is None:
            raise NotFound("No such reprocess job.")
        await audit.record(connection, by, AuditAction.REPROCESS_DELETED, details={"job": str(uuid)})


def job_from(row: sa.Row[Any]) -> ReprocessJob:
    """Return the job of a row of `reprocess_jobs`."""
    counts = Counts(
        matched=row.matched,
        queued=row.queued,
        done=row.done,
        failed=row.failed,
        cancelled=row.cancelled,
        skipped=max(0, row.matched - row.queued) if row.cursor >= row.up_to else 0,
    )
    return ReprocessJob(
        id=row.id,
        uuid=row.uuid,
        selection=Selection.from_json(row.selection),
        images_per_minute=row.images_per_minute,
        suspended=row.suspended,
        since=row.since,
        cursor=row.cursor,
        up_to=row.up_to,
        counts=counts,
        next_at=row.next_at,
        progress_at=row.progress_at,
        created_by=row.created_by,
        created_at=row.created_at,
        completed_at=row.completed_at,
    )


async def _survey(db: Database, selection: Selection, *, now: datetime) -> _Survey:
    await require_clients(db, selection)
    # `now` is earlier than this read: a job that it misses starts its runs later, so their results are newer than it.
    since = _new_since(await unfinished_jobs(db), selection, now=now)
    after, up_to = await id_range(db)
    wanted = await matching(db, selection, since=since)
    return _Survey(since, after, up_to, await count_matching(db, wanted, after=after, up_to=up_to))


def _new_since(jobs: Sequence[ReprocessJob], selection: Selection, *, now: datetime) -> datetime:
    """Return since when results are new: since the oldest unfinished job that may have queued the same images."""
    return min([now, *(job.since for job in jobs if job.selection.overlaps(selection))])


async def _insert(db: Database, new: NewJob, survey: _Survey, *, now: datetime, by: Actor) -> ReprocessJob | None:
    insert = sqlite.insert if db.is_sqlite else postgresql.insert
    statement = insert(reprocess_jobs).values(
        uuid=new.uuid or uuid4(),
        selection=new.selection.to_json(),
        images_per_minute=new.images_per_minute,
        suspended=new.suspended,
        since=survey.since,
        cursor=survey.after,
        up_to=survey.up_to,
        matched=survey.matched,
        next_at=now,
        progress_at=now,
        created_by=by.name,
        created_at=now,
    )
    async with db.write(SYSTEM) as connection:
        row = (await connection.execute(statement.on_conflict_do_nothing().returning(reprocess_jobs))).one_or_none()
        if row is None:
            return None
        details = {"job": str(row.uuid), "selection": row.selection, "matched": survey.matched}
        await audit.record(connection, by, AuditAction.REPROCESS_CREATED, details=details)
        return job_from(row)


def _same(existing: ReprocessJob, new: NewJob) -> ReprocessJob:
    if existing.selection != new.selection:
        raise Conflict("A reprocess job with this uuid exists, and has another selection.")
    return existing


def _is(ref: JobRef) -> sa.ColumnElement[bool]:
    return reprocess_jobs.c.uuid == ref if isinstance(ref, UUID) else reprocess_jobs.c.id == ref
