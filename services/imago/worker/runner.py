"""The runner of stages: it claims the run of a message, does the work, commits the result and acknowledges.

A redelivery is harmless and the database rejects late results, so in every doubt the message is left for redelivery.
An infrastructure error returns the attempt; a failure of the image counts.
"""

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from uuid import UUID

import orjson
import structlog

from imago.core.jobs.claims import WORKER_LOST, Claim, ClaimLost, ClaimRejected, ClaimRequest, ClaimUnknown
from imago.core.jobs.completion import FailedAttempt, StageCompletion
from imago.core.jobs.failures import EXHAUSTED_ERRNOS, PermanentFailure, StageFailure, TransientFailure
from imago.core.jobs.rules import Die, Park, RetryInStream
from imago.core.jobs.stage_outcomes import StageEnded
from imago.core.jobs.stages import WORKER_KINDS, Stage
from imago.core.lanes.model import lane_label
from imago.core.outbox.model import OutboxPublisher
from imago.core.outbox.work_message import BadMessage, WorkMessage
from imago.db.engine import Database, DatabaseUnavailable
from imago.imaging.sandbox.pool import time_limit
from imago.nats.consumer import Delivery
from imago.objects.store import ObjectMissing, StorageUnavailable
from imago.runtime import failpoints
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.tracing import consumer_span, propagated_headers, request_id_of
from imago.worker.commits import JobCommits
from imago.worker.heartbeats import claim_heartbeat, message_heartbeat
from imago.worker.scratch import ScratchDirectories
from imago.worker.shares import ClientShares
from imago.worker.stages.base import StageHandler, StageOutput

log = structlog.get_logger(__name__)

# The delay before a message is redelivered that came while the database or the storage was unavailable.
REDELIVERY_DELAY = timedelta(seconds=5)

# A child process has a deadline too. It expires first, because its failure is more specific.
_TIMEOUT_SLACK = 10.0

# Stages that keep a child process busy. Jobs of the other stages mostly wait for a provider.
_COMPUTING_STAGES = frozenset({Stage.THUMBNAIL, Stage.OCR, Stage.EMBED})

# The delay before a message is redelivered whose client has its share of this worker, for each of its deliveries.
_TURN_DELAY = timedelta(seconds=2)
_MAX_TURN_DELAY = timedelta(seconds=30)

_INTERNAL_ERROR = ("internal-error", "The stage failed unexpectedly.")


class _ResourcesExhausted(Exception):
    """This machine has run out of disk space, memory or processes."""


class StageRunner:
    """Handles the deliveries of a worker's stages."""

    def __init__(
        self,
        *,
        settings: Settings,
        db: Database,
        outbox_publisher: OutboxPublisher,
        handlers: Mapping[Stage, StageHandler],
        on_database_unavailable: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._outbox_publisher = outbox_publisher
        self._handlers = handlers
        self._commits = JobCommits(settings, db, on_database_unavailable=on_database_unavailable)
        self._running: set[tuple[UUID, Stage, int]] = set()
        self._scratch = ScratchDirectories()
        # Enough for one client to keep all children busy, and as long as others' jobs find a place.
        self._shares = ClientShares(max(settings.children, settings.worker_max_jobs // 2))

    def close(self) -> None:
        """Remove the temporary directories."""
        self._scratch.close()

    async def handle(self, delivery: Delivery) -> None:
        """Settle one delivery."""
        try:
            message = WorkMessage.from_json(orjson.loads(delivery.data))
        except (BadMessage, orjson.JSONDecodeError) as error:
            log.error("message.rejected", stage=delivery.stage, error=str(error))
            await delivery.term()
            return
        run = message.image, message.stage, message.run
        if run in self._running:
            # The message was redelivered because heartbeats were late, but this process still works on the run. A
            # second claim would only cost an attempt.
            await delivery.nak(self._commits.lease)
            return
        self._running.add(run)
        try:
            with _context_of(message, delivery.headers):
                await self._run_in_turn(delivery, message)
        finally:
            self._running.discard(run)

    async def _run_in_turn(self, delivery: Delivery, message: WorkMessage) -> None:
        """Run a stage, unless its client's slow jobs already have their share of this worker."""
        if message.stage not in _COMPUTING_STAGES:
            await self._claim_and_run(delivery, message)
        elif await self._enter(delivery, message):
            try:
                await self._claim_and_run(delivery, message)
            finally:
                self._shares.leave(message.client)
        else:
            await delivery.nak(min(_TURN_DELAY * delivery.count, _MAX_TURN_DELAY))

    async def _enter(self, delivery: Delivery, message: WorkMessage) -> bool:
        # The wait can be longer than the time after which the message is redelivered.
        with message_heartbeat(delivery, interval=self._settings.heartbeat):
            return await self._shares.enter(message.client)

    async def _claim_and_run(self, delivery: Delivery, message: WorkMessage) -> None:
        headers = propagated_headers(delivery.headers)
        try:
            claim = await self._commits.claim(ClaimRequest(message, headers))
        except ClaimUnknown as unknown:
            with message_heartbeat(delivery, interval=self._settings.heartbeat):
                await self._commits.release_unknown(unknown)
            await delivery.nak(REDELIVERY_DELAY)
        except DatabaseUnavailable:
            await delivery.nak(REDELIVERY_DELAY)
        else:
            if isinstance(claim, ClaimRejected):
                await self._settle_rejected(delivery, claim)
            else:
                failpoints.reach("stage.claimed")
                await self._run(delivery, claim, headers)

    async def _settle_rejected(self, delivery: Delivery, rejected: ClaimRejected) -> None:
        log.debug("claim.rejected", reason=rejected.reason)
        if rejected.retry_in is not None:
            await delivery.nak(rejected.retry_in)
            return
        if rejected.ended is not None:
            self._report_end(rejected.ended)
            metrics.DEAD_LETTERS.labels(delivery.stage, WORKER_LOST.code).inc()
        await delivery.ack()

    async def _run(self, delivery: Delivery, claim: Claim, headers: Mapping[str, str]) -> None:
        """Run a claimed stage and measure it."""
        lane = lane_label(delivery.lane)
        started = time.monotonic()
        with metrics.JOBS_RUNNING.labels(WORKER_KINDS[claim.stage]).track_inprogress():
            if claim.attempts == 1 and claim.run == 1:
                waited = max(time.time() - claim.created_at.timestamp(), 0.0)
                metrics.STAGE_WAIT_SECONDS.labels(claim.stage, lane).observe(waited, exemplar=metrics.exemplar())
            outcome = await self._attempt(delivery, claim, headers)
        seconds = time.monotonic() - started
        metrics.STAGE_SECONDS.labels(claim.stage, lane).observe(seconds, exemplar=metrics.exemplar())
        metrics.STAGE_RUNS.labels(claim.stage, lane, outcome).inc()
        log.info("stage.attempted", outcome=outcome, attempt=claim.attempts, seconds=round(seconds, 3))

    async def _attempt(self, delivery: Delivery, claim: Claim, headers: Mapping[str, str]) -> str:
        """Do the work of a claim and settle its message; return the outcome for the metric."""
        interval = self._settings.heartbeat
        job = asyncio.create_task(self._execute(claim))
        with (
            message_heartbeat(delivery, interval=interval),
            claim_heartbeat(self._commits, claim, job, interval=interval),
        ):
            try:
                return await self._complete(delivery, claim, await job, headers)
            except StageFailure as failure:
                return await self._fail(delivery, claim, failure, headers)
            except ClaimLost as lost:
                return await self._lose(delivery, str(lost))
            except (DatabaseUnavailable, StorageUnavailable, _ResourcesExhausted) as error:
                return await self._release(delivery, claim, error)
            except asyncio.CancelledError:
                if job.cancelled() and not _is_cancelling():
                    return await self._lose(delivery, "the heartbeat found another claim")
                job.cancel()
                await asyncio.shield(self._commits.release_within_lease(claim))
                await delivery.nak()
                raise
            except Exception:
                log.exception("stage.result-not-stored")
                return await self._fail(delivery, claim, TransientFailure(*_INTERNAL_ERROR), headers)

    async def _execute(self, claim: Claim) -> StageOutput:
        """Do the work; raise StageFailure, an infrastructure error, or _ResourcesExhausted."""
        try:
            with self._scratch.directory() as directory:
                limit = self._settings.stage_timeout(claim.stage) + _TIMEOUT_SLACK
                async with time_limit(limit, client=claim.image.client_id):
                    return await self._handlers[claim.stage].run(claim, directory)
        except ObjectMissing:
            raise PermanentFailure("original-missing", "The stored image is gone.") from None
        except TimeoutError:
            raise TransientFailure("stage-timeout", "The stage took too long.") from None
        except (StageFailure, StorageUnavailable, DatabaseUnavailable, asyncio.CancelledError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in EXHAUSTED_ERRNOS:
                raise _ResourcesExhausted(errno.errorcode[error.errno]) from None
            log.exception("stage.crashed")
            raise TransientFailure(*_INTERNAL_ERROR) from None

    async def _complete(self, delivery: Delivery, claim: Claim, output: StageOutput, headers: Mapping[str, str]) -> str:
        failpoints.reach("stage.worked")
        ended = await self._commits.complete(
            StageCompletion(claim, output.result, headers, output.thumbnail_key, output.recognition)
        )
        failpoints.reach("stage.committed")
        self._report_end(ended)
        if not failpoints.reach("stage.acking"):
            await delivery.ack()
        return "done"

    async def _fail(self, delivery: Delivery, claim: Claim, failure: StageFailure, headers: Mapping[str, str]) -> str:
        try:
            failed = await self._commits.fail(claim, failure, headers)
        except ClaimLost as lost:
            return await self._lose(delivery, str(lost))
        log.info("stage.failed", error_code=failure.code, attempt=claim.attempts)
        self._report_end(failed)
        match failed.decision:
            case RetryInStream(delay):
                await delivery.nak(delay)
                return "retrying"
            case Park():
                await delivery.ack()
                return "parked"
            case Die():
                metrics.DEAD_LETTERS.labels(claim.stage, failure.code).inc()
                await delivery.ack()
                return "dead"

    async def _lose(self, delivery: Delivery, reason: str) -> str:
        """Leave the message for redelivery, not acknowledged: the worker with the newer claim may need it."""
        log.info("claim.lost", reason=reason)
        await delivery.nak(REDELIVERY_DELAY)
        return "lost"

    async def _release(self, delivery: Delivery, claim: Claim, error: Exception) -> str:
        log.warning(
            "stage.released",
            message="A dependency is unavailable; returning the attempt.",
            error=type(error).__name__,
            reason=str(error),
        )
        await self._commits.release(claim)
        await delivery.nak(REDELIVERY_DELAY)
        return "released"

    def _report_end(self, ended: StageEnded | FailedAttempt) -> None:
        self._outbox_publisher.publish_soon(ended.outbox)
        if ended.image_done_after is not None:
            log.info("image.done", seconds=round(ended.image_done_after.total_seconds(), 3))


@contextlib.contextmanager
def _context_of(message: WorkMessage, headers: Mapping[str, str]) -> Iterator[None]:
    """Bind log fields and continue the trace of the request that caused a message."""
    fields = structlog.contextvars.bound_contextvars(
        client=str(message.client),
        image=str(message.image),
        stage=str(message.stage),
        run=message.run,
        **request_id_of(headers),
    )
    attributes: dict[str, str | int] = {"stage": message.stage, "run": message.run, "image": str(message.image)}
    with fields, consumer_span(f"stage {message.stage}", headers, **attributes):
        yield


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
