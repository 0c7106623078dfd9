"""Queues the images of reprocess jobs at their rates, and counts those that have ended."""

from collections.abc import Sequence

import structlog

from imago.core.outbox.model import OutboxPublisher
from imago.core.reprocessing.jobs import unfinished_jobs
from imago.core.reprocessing.model import Phase, ReprocessJob
from imago.core.reprocessing.pace import allowed_images, unfinished_limit
from imago.core.reprocessing.progress import count_ended, move_cursor, queue_image, unfinished_images
from imago.core.reprocessing.selecting import matching, next_matching
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.snapshot import Labels, Snapshot
from imago.telemetry.tracing import trace_headers

log = structlog.get_logger(__name__)

# The most images of a job in one run, so that each job gets its turn.
BATCH = 200
# The most ranges of ids that one run searches for a job's next images.
WINDOWS = 20


class ReprocessRunner:
    """Continues all reprocess jobs."""

    def __init__(self, settings: Settings, db: Database, outbox_publisher: OutboxPublisher) -> None:
        self._db = db
        self._outbox_publisher = outbox_publisher
        self._stages_off = settings.stages_off
        self._gauges = Snapshot(metrics.REPROCESS_JOBS, metrics.REPROCESS_REMAINING, metrics.REPROCESS_STALLED)
        for outcome in ("queued", "ended"):
            metrics.REPROCESSED_IMAGES.labels(outcome)

    async def run_once(self) -> int:
        """Queue the images that are due; return their number."""
        total = 0
        jobs = await unfinished_jobs(self._db)
        self._set_gauges(jobs)
        for job in jobs:
            ended = await count_ended(self._db, job)
            metrics.REPROCESSED_IMAGES.labels("ended").inc(ended)
            if job.is_queueing and not job.suspended:
                queued = await self._queue(job.limited_to(self._stages_off))
                metrics.REPROCESSED_IMAGES.labels("queued").inc(queued)
                total += queued
        if total:
            log.info("reprocess.queued", images=total)
        return total

    def clear(self) -> None:
        """Remove the gauges: another process runs the jobs now."""
        self._gauges.clear()

    def _set_gauges(self, jobs: Sequence[ReprocessJob]) -> None:
        now = utc_now()
        running = [job for job in jobs if not job.suspended]
        stalled = [(now - job.progress_at).total_seconds() for job in running]
        phases: dict[Labels, float] = {(Phase.RUNNING,): len(running), (Phase.SUSPENDED,): len(jobs) - len(running)}
        self._gauges.replace(metrics.REPROCESS_JOBS, phases)
        self._gauges.replace(metrics.REPROCESS_REMAINING, {(): sum(job.counts.unfinished for job in running)})
        self._gauges.replace(metrics.REPROCESS_STALLED, {(): max(0.0, *stalled, 0.0)})

    async def _queue(self, job: ReprocessJob) -> int:
        limit = await self._limit(job)
        if limit <= 0:
            return 0
        wanted = await matching(self._db, job.selection, since=job.since)
        found, searched = await next_matching(
            self._db, wanted, after=job.cursor, up_to=job.up_to, limit=limit, windows=WINDOWS
        )
        queued = 0
        for image_id in found:
            rows = await queue_image(self._db, job, wanted, image_id, headers=trace_headers())
            if rows is None:
                return queued
            self._outbox_publisher.publish_soon(rows)
            queued += bool(rows)
        if len(found) < limit:
            await move_cursor(self._db, job, searched)
        return queued

    async def _limit(self, job: ReprocessJob) -> int:
        now = utc_now()
        due = allowed_images(now, next_at=job.next_at, images_per_minute=job.images_per_minute)
        if not due:
            return 0
        room = unfinished_limit(job.images_per_minute) - await unfinished_images(self._db, job, now=now)
        return min(due, room, BATCH)
