"""A worker process: its consumer, its runner, and what happens while the database is away and when it is stopped."""

import asyncio
from collections.abc import Mapping

import structlog

from imago.cancellation import end_tasks
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import WorkerLanes
from imago.core.outbox.model import Announcer
from imago.db.engine import Database, DatabaseUnavailable
from imago.nats.connection import NatsConnection
from imago.nats.consumer import WorkConsumer
from imago.settings import Settings
from imago.worker.runner import StageRunner
from imago.worker.stages.base import StageWork

log = structlog.get_logger(__name__)

_DATABASE_POLL_SECONDS = 1.0


class Worker:
    """Works on stages until it is stopped."""

    def __init__(
        self,
        *,
        settings: Settings,
        db: Database,
        nats: NatsConnection,
        announcer: Announcer,
        stages: Mapping[Stage, StageWork],
    ) -> None:
        self._settings = settings
        self._db = db
        self._database_away = asyncio.Event()
        self._runner = StageRunner(
            settings=settings, db=db, announcer=announcer, stages=stages, on_database_away=self._database_away.set
        )
        self._consumer = WorkConsumer(
            nats,
            stages=tuple(stages),
            lanes=WorkerLanes.parse(settings.worker_lanes),
            max_jobs=settings.worker_max_jobs,
            heartbeat=settings.heartbeat,
            handler=self._runner.handle,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then end or give back what is held."""
        watch = asyncio.create_task(self._watch_database())
        pulling = asyncio.create_task(self._consumer.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([pulling, stopping], return_when=asyncio.FIRST_COMPLETED)
            if pulling.done():
                # It only ends by itself with an error; the process ends with it and is started anew.
                pulling.result()
            log.info("stopping", jobs=self._consumer.slots.busy)
            await self._consumer.stop(grace=self._settings.shutdown_timeout)
            await pulling
        finally:
            await end_tasks(watch, stopping)
            self._runner.close()

    async def _watch_database(self) -> None:
        """Pause pulling while the database is away."""
        while True:
            await self._database_away.wait()
            self._consumer.pause()
            log.warning("the database is away, not pulling")
            while True:
                try:
                    await self._db.check()
                except DatabaseUnavailable:
                    await asyncio.sleep(_DATABASE_POLL_SECONDS)
                    continue
                except Exception:
                    # A server that refuses us is as good as away; this task must outlive it.
                    log.exception("the database refuses")
                    await asyncio.sleep(_DATABASE_POLL_SECONDS)
                    continue
                break
            self._database_away.clear()
            self._consumer.resume()
            log.info("the database is back")
