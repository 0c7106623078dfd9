"""Periodic tasks run in one process at a time, and continue after failures."""

import asyncio
from collections.abc import Awaitable, Callable

from structlog.testing import capture_logs

from devtools.waiting import until
from imago.db.engine import Database
from imago.maintenance.scheduler import MaintenanceScheduler, PeriodicTask
from imago.nats.connection import NatsUnavailable


async def test_a_task_runs_in_one_process_and_moves_when_that_process_stops(db: Database) -> None:
    runs: list[str] = []
    lost: list[str] = []

    def task(process: str) -> PeriodicTask:
        async def run() -> int:
            runs.append(process)
            return 0

        return PeriodicTask("task", 0.02, run, on_lease_lost=lambda: lost.append(process))

    first, second = MaintenanceScheduler(db, (task("first"),)), MaintenanceScheduler(db, (task("second"),))
    await first.start()
    await until(_true(lambda: len(runs) > 2), what="the first process to run the task")
    await second.start()
    await until(_true(lambda: lost and len(runs) > 6), what="more runs")
    assert (set(runs), set(lost)) == ({"first"}, {"second"})
    await first.close()
    await until(_true(lambda: "second" in runs), what="the second process to take over")
    await second.close()


async def test_a_trigger_runs_a_task_before_its_interval_is_over(sqlite_db: Database) -> None:
    runs: list[str] = []

    async def run() -> int:
        runs.append("run")
        return 0

    scheduler = MaintenanceScheduler(sqlite_db, (PeriodicTask("task", 3600, run),))
    await scheduler.start()
    await until(_true(lambda: len(runs) == 1), what="the first run")
    scheduler.trigger("task")
    await until(_true(lambda: len(runs) == 2), what="the triggered run")
    await scheduler.close()


async def test_a_task_that_failed_runs_again(sqlite_db: Database) -> None:
    failures = [NatsUnavailable("not connected"), RuntimeError("a bug")]
    finished = asyncio.Event()

    async def run() -> int:
        if failures:
            raise failures.pop(0)
        finished.set()
        return 0

    with capture_logs() as lines:
        scheduler = MaintenanceScheduler(sqlite_db, (PeriodicTask("task", 0.01, run),))
        await scheduler.start()
        await asyncio.wait_for(finished.wait(), 10)
        await scheduler.close()
    assert [(line["event"], line["task"]) for line in lines] == [
        ("maintenance.task-deferred", "task"),
        ("maintenance.task-failed", "task"),
    ]


def _true(read: Callable[[], object]) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        return bool(read())

    return condition
