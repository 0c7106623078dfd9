"""The chores of every API process, each done by one process at a time under a lease in the database."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from imago.cancellation import end_tasks
from imago.core.leases import release_leases, take_lease
from imago.db.engine import Database, DatabaseUnavailable
from imago.nats.connection import NatsUnavailable
from imago.objects.store import StorageUnavailable
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

# A process that dies holding a lease keeps a chore undone for this many of its intervals, and this long at least.
LEASE_INTERVALS = 3
SHORTEST_LEASE = 5.0

ADVISORY_INTERVAL = 5.0


@dataclass(frozen=True)
class PeriodicTask:
    """Something done every `interval` seconds; `shared` chores need no lease.

    `forget` is called at each turn that is another process's: what this one knew is no longer told.
    """

    name: str
    interval: float
    run: Callable[[], Awaitable[int]]
    shared: bool = False
    on_lease_lost: Callable[[], None] | None = None


class MaintenanceScheduler:
    """Runs chores until it is closed; one that fails is logged and tried again at its next turn."""

    def __init__(self, db: Database, chores: tuple[PeriodicTask, ...]) -> None:
        self._db = db
        self._chores = chores
        self._holder = uuid.uuid4().hex
        self._tasks: list[asyncio.Task[None]] = []
        self._nudges = {chore.name: asyncio.Event() for chore in chores}

    def trigger(self, name: str) -> Callable[[], None]:
        """Return what makes a chore's next turn come now."""
        return self._nudges[name].set

    async def start(self) -> None:
        """Begin."""
        metrics.init_maintenance_series(chore.name for chore in self._chores)
        self._tasks = [asyncio.create_task(self._loop(chore), name=f"upkeep-{chore.name}") for chore in self._chores]

    async def close(self) -> None:
        """Stop and give the leases back."""
        await end_tasks(*self._tasks)
        with contextlib.suppress(DatabaseUnavailable):
            await release_leases(self._db, self._holder)

    async def _loop(self, chore: PeriodicTask) -> None:
        ttl = timedelta(seconds=max(chore.interval * LEASE_INTERVALS, SHORTEST_LEASE))
        while True:
            try:
                if chore.shared or await take_lease(self._db, chore.name, self._holder, ttl=ttl):
                    await chore.run()
                    metrics.TASK_RUNS.labels(chore.name, "done").inc()
                    metrics.TASK_LAST_SUCCESS.labels(chore.name).set_to_current_time()
                elif chore.on_lease_lost is not None:
                    chore.on_lease_lost()
            except (DatabaseUnavailable, NatsUnavailable, StorageUnavailable) as error:
                metrics.TASK_RUNS.labels(chore.name, "waited").inc()
                log.info("a chore has to wait", chore=chore.name, error=type(error).__name__)
            except Exception:
                metrics.TASK_RUNS.labels(chore.name, "failed").inc()
                log.exception("a chore failed", chore=chore.name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudges[chore.name].wait(), chore.interval)
            self._nudges[chore.name].clear()
