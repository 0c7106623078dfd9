"""Runs the periodic tasks of an API process; a lease in the database lets one process run each task at a time."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from imago.core.concurrency.leases import release_leases, take_lease
from imago.db.engine import Database, DatabaseUnavailable
from imago.nats.connection import NatsUnavailable
from imago.objects.store import StorageUnavailable
from imago.runtime.cancellation import end_tasks
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

# A lease lasts this many intervals, but at least `MIN_LEASE_SECONDS`. After a crash of its holder, the task does not
# run for that long.
LEASE_INTERVALS = 3
MIN_LEASE_SECONDS = 5.0


@dataclass(frozen=True)
class PeriodicTask:
    """A task that runs every `interval` seconds; a `shared` one runs in every process, without a lease.

    `on_lease_lost` is called at each interval in which another process holds the lease.
    """

    name: str
    interval: float
    run: Callable[[], Awaitable[int]]
    shared: bool = False
    on_lease_lost: Callable[[], None] | None = None


class MaintenanceScheduler:
    """Runs periodic tasks until it is closed; a task that fails is logged, and runs again after its interval."""

    def __init__(self, db: Database, tasks: tuple[PeriodicTask, ...]) -> None:
        self._db = db
        self._tasks = tasks
        self._holder = uuid.uuid4().hex
        self._loops: list[asyncio.Task[None]] = []
        self._triggers = {task.name: asyncio.Event() for task in tasks}

    def trigger(self, name: str) -> None:
        """Run a task now instead of after its interval."""
        self._triggers[name].set()

    async def start(self) -> None:
        """Start all tasks."""
        metrics.init_maintenance_series(task.name for task in self._tasks)
        self._loops = [asyncio.create_task(self._loop(task), name=f"maintenance-{task.name}") for task in self._tasks]

    async def close(self) -> None:
        """Stop all tasks, and release their leases."""
        await end_tasks(*self._loops)
        with contextlib.suppress(DatabaseUnavailable):
            await release_leases(self._db, self._holder)

    async def _loop(self, task: PeriodicTask) -> None:
        trigger = self._triggers[task.name]
        while True:
            try:
                await self._run(task)
            except (DatabaseUnavailable, NatsUnavailable, StorageUnavailable) as error:
                metrics.TASK_RUNS.labels(task.name, "waited").inc()
                log.info("maintenance.task-deferred", task=task.name, error=type(error).__name__)
            except Exception:
                metrics.TASK_RUNS.labels(task.name, "failed").inc()
                log.exception("maintenance.task-failed", task=task.name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(trigger.wait(), task.interval)
            trigger.clear()

    async def _run(self, task: PeriodicTask) -> None:
        lease = timedelta(seconds=max(task.interval * LEASE_INTERVALS, MIN_LEASE_SECONDS))
        if task.shared or await take_lease(self._db, task.name, self._holder, ttl=lease):
            await task.run()
            metrics.TASK_RUNS.labels(task.name, "done").inc()
            metrics.TASK_LAST_SUCCESS.labels(task.name).set_to_current_time()
        elif task.on_lease_lost is not None:
            task.on_lease_lost()
