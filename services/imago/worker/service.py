"""A worker process: its consumer, its runner, its pause while the database is unavailable, and its shutdown."""

import asyncio
from collections.abc import Mapping

import structlog

from imago.core.jobs.stages import Stage
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.core.outbox.model import OutboxPublisher
from imago.db.engine import Database, DatabaseUnavailable
from imago.nats.connection import NatsConnection
from imago.nats.consumer import WorkConsumer
from imago.runtime.cancellation import end_tasks
from imago.settings import Settings
from imago.worker.runner import StageRunner
from imago.worker.stages.base import StageHandler

log = structlog.get_logger(__name__)

_DATABASE_POLL_SECONDS = 1.0


class Worker:
    """Runs stages until it is stopped."""

    def __init__(
        self,
        *,
        settings: Settings,
        db: Database,
        nats: NatsConnection,
        outbox_publisher: OutboxPublisher,
        handlers: Mapping[Stage, StageHandler],
    ) -> None:
        self._settings = settings
        self._db = db
        self._database_unavailable = asyncio.Event()
        self._runner = StageRunner(
            settings=settings,
            db=db,
            outbox_publisher=outbox_publisher,
            handlers=handlers,
            on_database_unavailable=self._database_unavailable.set,
        )
        self._consumer = WorkConsumer(
            nats,
            stages=tuple(handlers),
            lanes=WorkerLanes.parse(settings.worker_lanes),
            max_jobs=settings.worker_max_jobs,
            heartbeat=settings.heartbeat,
            handler=self._runner.handle,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; then finish or release the running jobs."""
        watching = asyncio.create_task(self._watch_database())
        pulling = asyncio.create_task(self._consumer.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([pulling, stopping], return_when=asyncio.FIRST_COMPLETED)
            if pulling.done():
                # Without a stop it ends only with an error, which ends the process; it is then restarted.
                pulling.result()
            log.info("worker.stopping", jobs=self._consumer.slots.busy)
            await self._consumer.stop(grace=self._settings.shutdown_timeout)
            await pulling
        finally:
            await end_tasks(watching, stopping)
            self._runner.close()

    async def _watch_database(self) -> None:
        """Pause pulling while the database is unavailable."""
        while True:
            await self._database_unavailable.wait()
            self._consumer.pause()
            log.warning("database.unavailable", message="Not pulling messages.")
            await self._wait_for_database()
            self._database_unavailable.clear()
            self._consumer.resume()
            log.info("database.available")

    async def _wait_for_database(self) -> None:
        while True:
            try:
                return await self._db.check()
            except DatabaseUnavailable:
                pass
            except Exception:
                # A server that rejects the connection counts as unavailable, and must not end this task.
                log.exception("database.check-failed")
            await asyncio.sleep(_DATABASE_POLL_SECONDS)
