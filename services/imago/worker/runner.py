"""The stage runner: claim, work, commit, acknowledge (DESIGN, section 3, step 4).

Redelivery is harmless and a late writer is refused by the database, so every doubt here is settled by doing nothing and
letting the message come again. What is trouble of ours gives the try back; what is the image's counts.
"""

import asyncio
import contextlib
import errno
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

import orjson
import structlog

from imago import failpoints
from imago.core.batching import Batches
from imago.core.jobs import claims
from imago.core.jobs import completion as work
from imago.core.jobs.claims import Claim, ClaimLost, ClaimUnknown, Ended, Refused, Wanted
from imago.core.jobs.completion import Failed, Finished
from imago.core.jobs.failures import EXHAUSTED, PermanentFailure, StageFailure, TransientFailure
from imago.core.jobs.rules import Die, Park, RetryInStream
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import lane_label
from imago.core.outbox.model import Announcer
from imago.core.outbox.work_message import BadMessage, WorkMessage
from imago.db.engine import Database, DatabaseUnavailable
from imago.imaging.sandbox.pool import time_limit
from imago.nats.consumer import Delivery
from imago.objects.store import ObjectMissing, StorageUnavailable
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.tracing import consumer_span, propagated_headers, request_id_of
from imago.worker.scratch import Scratch
from imago.worker.stages.base import Outcome, StageWork

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A message that comes while the database or the storage is away is asked for again after this.
AWAY = timedelta(seconds=5)

# Between two tries to commit what a stage has worked out.
COMMIT_RETRY_SECONDS = 1.0

# As many jobs begin or end in one transaction at most; it holds the locks on their images.
_LARGEST_BATCH = 50


class _Exhausted(Exception):
    """This machine lacks what the work needs: disk, memory, processes."""


class StageRunner:
    """Handles the deliveries of a worker's stages."""

    def __init__(
        self,
        *,
        settings: Settings,
        db: Database,
        announcer: Announcer,
        stages: Mapping[Stage, StageWork],
        on_database_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._db = db
        self._announcer = announcer
        self._stages = stages
        self._on_database_away = on_database_away
        self._lease = timedelta(seconds=settings.ack_wait)
        self._held: set[tuple[UUID, Stage, int]] = set()
        self._scratch = Scratch()
        # The commits of jobs that begin, and of those that end, at the same time; each alone costs four round trips
        # and more, and the disk.
        self._claims: Batches[Wanted, Claim | Refused] = Batches(
            lambda wanted: claims.claim(db, wanted, lease=self._lease, max_tries=settings.worker_max_tries),
            largest=_LARGEST_BATCH,
            common=(DatabaseUnavailable,),
        )
        self._results: Batches[Finished, Ended] = Batches(
            lambda finished: work.finish(db, finished), largest=_LARGEST_BATCH, common=(DatabaseUnavailable,)
        )

    def close(self) -> None:
        """Remove the temporary folders."""
        self._scratch.close()

    async def handle(self, delivery: Delivery) -> None:
        """Settle one delivery."""
        try:
            message = WorkMessage.from_json(orjson.loads(delivery.data))
        except (BadMessage, orjson.JSONDecodeError) as error:
            log.error("a message that can't be read", stage=delivery.stage, error=str(error))
            await delivery.term()
            return
        context = structlog.contextvars.bound_contextvars(
            client=str(message.client),
            image=str(message.image),
            stage=str(message.stage),
            run=message.run,
            **request_id_of(delivery.headers),
        )
        attributes: dict[str, str | int] = {"stage": message.stage, "run": message.run, "image": str(message.image)}
        run = message.image, message.stage, message.run
        if run in self._held:
            # Its heartbeats came too late, but this very process is at it: a second claim would only cost a try.
            await delivery.nak(self._lease)
            return
        self._held.add(run)
        try:
            with context, consumer_span(f"stage {message.stage}", delivery.headers, **attributes):
                await self._handle(delivery, message)
        finally:
            self._held.discard(run)

    async def _handle(self, delivery: Delivery, message: WorkMessage) -> None:
        headers = propagated_headers(delivery.headers)
        try:
            claimed = await self._claimed(Wanted(message, headers))
        except ClaimUnknown as unknown:
            self._on_database_away()
            await self._undo(delivery, unknown)
            await delivery.nak(AWAY)
            return
        except DatabaseUnavailable:
            self._on_database_away()
            await delivery.nak(AWAY)
            return
        if isinstance(claimed, Refused):
            await self._refused(delivery, claimed)
            return
        failpoints.reach("stage.claimed")
        metrics.JOBS_RUNNING.labels(_worker(message.stage)).inc()
        started = time.monotonic()
        if claimed.attempts == 1 and claimed.run == 1:
            waited = time.time() - claimed.created_at.timestamp()
            metrics.STAGE_WAIT_SECONDS.labels(message.stage, lane_label(delivery.lane)).observe(
                max(waited, 0.0), exemplar=metrics.exemplar()
            )
        try:
            outcome = await self._work(delivery, claimed, headers)
        finally:
            metrics.JOBS_RUNNING.labels(_worker(message.stage)).dec()
        seconds = time.monotonic() - started
        metrics.STAGE_SECONDS.labels(message.stage, lane_label(delivery.lane)).observe(
            seconds, exemplar=metrics.exemplar()
        )
        metrics.STAGE_RUNS.labels(message.stage, lane_label(delivery.lane), outcome).inc()
        log.info("stage tried", outcome=outcome, attempt=claimed.attempts, seconds=round(seconds, 3))

    async def _claimed(self, wanted: Wanted) -> Claim | Refused:
        asked = self._claims.ask(wanted)
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            # It may be under way with others, and would be a try that nobody works on.
            with contextlib.suppress(TimeoutError, DatabaseUnavailable):
                async with asyncio.timeout(self._lease.total_seconds()):
                    try:
                        claimed = await asked
                    except ClaimUnknown as unknown:
                        await self._committed(partial(claims.release_unknown, self._db, unknown))
                    else:
                        if isinstance(claimed, Claim):
                            await self._give_back(claimed)
            raise

    async def _refused(self, delivery: Delivery, refused: Refused) -> None:
        log.debug("not claimed", reason=refused.reason)
        if refused.retry_in is not None:
            await delivery.nak(refused.retry_in)
            return
        if refused.ended is not None:
            self._ended(refused.ended)
            metrics.DEAD_LETTERS.labels(delivery.stage, claims.LOST_WORKER.code).inc()
        await delivery.ack()

    async def _work(self, delivery: Delivery, held: Claim, headers: Mapping[str, str]) -> str:
        """Do the work of a claim and settle it; return what became of it, as the metric names it."""
        job = asyncio.create_task(self._run_stage(held))
        beats = [
            asyncio.create_task(self._keep_message(delivery)),
            asyncio.create_task(self._keep_claim(held, job)),
        ]
        try:
            done = await job
            failpoints.reach("stage.worked")
            ended = await self._committed(
                lambda: self._results.ask(Finished(held, done.result, headers, done.thumbnail_key))
            )
            failpoints.reach("stage.committed")
            self._ended(ended)
            if not failpoints.reach("stage.acking"):
                await delivery.ack()
            return "done"
        except StageFailure as failure:
            return await self._failed(delivery, held, failure, headers)
        except ClaimLost as lost:
            # Another one is at it, or the image is gone and a late thumbnail goes with its objects. The message may be
            # the other one's too, so it is not acknowledged here: the next claim finds out.
            log.info("claim lost", reason=str(lost))
            await delivery.nak(AWAY)
            return "lost"
        except (DatabaseUnavailable, StorageUnavailable, _Exhausted) as error:
            log.warning("a part is away, the try is given back", error=type(error).__name__, reason=str(error))
            # However long it takes: the message is kept meanwhile, and the fence refuses what comes too late.
            await self._committed(lambda: claims.release(self._db, held))
            await delivery.nak(AWAY)
            return "released"
        except asyncio.CancelledError:
            if job.cancelled() and not _is_cancelling():
                # The heartbeat found that the claim is another's.
                await delivery.nak(AWAY)
                return "lost"
            job.cancel()
            await asyncio.shield(self._give_back(held))
            await delivery.nak()
            raise
        except Exception:
            # The result can't be stored; unlike a lost worker, this says so.
            log.exception("a result could not be committed")
            unstorable = TransientFailure("internal-error", "The stage failed unexpectedly.")
            return await self._failed(delivery, held, unstorable, headers)
        finally:
            for task in beats:
                task.cancel()

    async def _run_stage(self, held: Claim) -> Outcome:
        stage = self._stages[held.stage]
        try:
            with self._scratch.folder() as directory:
                async with time_limit(self._settings.stage_timeout(held.stage) + _TIMEOUT_SLACK):
                    return await stage.run(held, directory)
        except ObjectMissing:
            raise PermanentFailure("original-missing", "The stored image is gone.") from None
        except TimeoutError:
            raise TransientFailure("stage-timeout", "The stage took too long.") from None
        except (StageFailure, StorageUnavailable, DatabaseUnavailable, asyncio.CancelledError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in EXHAUSTED:
                raise _Exhausted(errno.errorcode[error.errno]) from None
            log.exception("a stage failed unexpectedly")
            raise TransientFailure("internal-error", "The stage failed unexpectedly.") from None

    async def _failed(self, delivery: Delivery, held: Claim, failure: StageFailure, headers: Mapping[str, str]) -> str:
        settings = self._settings
        try:
            failed = await self._committed(
                lambda: work.fail(
                    self._db,
                    held,
                    failure,
                    max_tries=settings.worker_max_tries,
                    base=timedelta(seconds=settings.retry_base),
                    cap=timedelta(seconds=settings.retry_cap),
                    headers=headers,
                )
            )
        except ClaimLost:
            await delivery.nak(AWAY)
            return "lost"
        log.info("stage failed", error_code=failure.code, attempt=held.attempts)
        self._announcer.announce(failed.outbox)
        _log_end(failed)
        match failed.decision:
            case RetryInStream(delay):
                await delivery.nak(delay)
                return "retrying"
            case Park():
                await delivery.ack()
                return "parked"
            case Die():
                metrics.DEAD_LETTERS.labels(held.stage, failure.code).inc()
                await delivery.ack()
                return "dead"

    async def _committed(self, commit: Callable[[], Awaitable[T]]) -> T:
        """Commit what a try came to, however long the database is away: it is no fault of the image."""
        while True:
            try:
                return await commit()
            except DatabaseUnavailable:
                self._on_database_away()
                await asyncio.sleep(COMMIT_RETRY_SECONDS)

    async def _undo(self, delivery: Delivery, unknown: ClaimUnknown) -> None:
        """Give back what may have been claimed, when the database is there again."""
        beat = asyncio.create_task(self._keep_message(delivery))
        try:
            await self._committed(lambda: claims.release_unknown(self._db, unknown))
        finally:
            beat.cancel()

    async def _give_back(self, held: Claim) -> None:
        """Uncount the try of a worker that is to stop, as long as the claim's lease can last."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lease.total_seconds()):
                await self._committed(lambda: claims.release(self._db, held))

    async def _keep_message(self, delivery: Delivery) -> None:
        """Keep the message from being delivered again while the work goes on.

        A task of its own: were it to wait for a slow database, every worker would lose its messages to the others. The
        work itself runs in child processes and threads, so nothing starves it.
        """
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            await delivery.in_progress()

    async def _keep_claim(self, held: Claim, job: asyncio.Task[Outcome]) -> None:
        """Keep the lease while the work goes on; stop the work where the lease is another's."""
        while True:
            await asyncio.sleep(self._settings.heartbeat)
            try:
                mine = await claims.extend(self._db, held, lease=self._lease)
            except DatabaseUnavailable:
                self._on_database_away()
                continue
            except Exception:
                # Without heartbeats a second worker would begin the same work.
                log.exception("a heartbeat failed")
                continue
            if not mine:
                job.cancel()
                return

    def _ended(self, ended: Ended) -> None:
        self._announcer.announce(ended.outbox)
        _log_end(ended)


# The child's own deadline comes first, because its failure says more.
_TIMEOUT_SLACK = 10.0


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_end(ended: Ended | Failed) -> None:
    if ended.image_done_after is not None:
        log.info("image done", seconds=round(ended.image_done_after.total_seconds(), 3))


def _worker(stage: Stage) -> str:
    return "exif" if stage is Stage.THUMBNAIL else str(stage)
