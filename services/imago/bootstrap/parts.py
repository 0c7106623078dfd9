"""What several kinds of process are put together from, and how it is taken apart again.

What one kind alone needs is elsewhere (`api_parts.py`, `worker_parts.py`): a pod that starts from zero imports no more
than it runs.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from imago.db.engine import Database
from imago.db.schema import wait_for_schema
from imago.imaging.sandbox.pool import ChildPool
from imago.maintenance.eager_publisher import BackgroundAnnouncer
from imago.nats.connection import Bus, BusUnavailable
from imago.nats.publisher import Publisher
from imago.objects.factory import build_store
from imago.objects.store import ObjectStore
from imago.settings import Settings
from imago.startup import StartupError
from imago.telemetry import metrics

SCHEMA_SECONDS = 120.0

# More often than anybody scrapes.
_PULSE_SECONDS = 2.0


@asynccontextmanager
async def database(
    settings: Settings, *, schema_timeout: float | None = SCHEMA_SECONDS, statement_timeout: float | None = None
) -> AsyncIterator[Database]:
    """Open the database once its schema is up to date; with `schema_timeout=None`, whatever its schema.

    Raises StartupError if the schema is still out of date after `schema_timeout` seconds.
    """
    db = Database.from_settings(settings, timeout=statement_timeout)
    db.on_connection_wait = metrics.DATABASE_WAIT_SECONDS.observe
    try:
        if schema_timeout is not None:
            await _wait_for_schema(db, timeout=schema_timeout)
        yield db
    finally:
        await db.close()


async def _wait_for_schema(db: Database, *, timeout: float) -> None:
    try:
        await wait_for_schema(db, timeout=timeout)
    except TimeoutError:
        raise StartupError("the database schema is out of date: run `imago migrate`") from None


@asynccontextmanager
async def connected_bus(settings: Settings, *, name: str) -> AsyncIterator[Bus]:
    """Give a connection to NATS that is being made in the background."""
    bus = Bus(settings, name=name)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[ObjectStore]:
    """Give the object store."""
    built = await build_store(settings)
    try:
        yield built
    finally:
        await built.close()


@asynccontextmanager
async def announcer(db: Database, publisher: Publisher, *, by: str) -> AsyncIterator[BackgroundAnnouncer]:
    """Give an announcer that publishes in the background."""
    background = BackgroundAnnouncer(db, publisher, by=by)
    await background.start()
    try:
        yield background
    finally:
        await background.close()


def child_pool(settings: Settings) -> ChildPool:
    """Build a pool of child processes: as many as there are cores, unless the settings say otherwise."""
    size = settings.worker_processes or min(os.cpu_count() or 1, settings.worker_max_jobs)
    return ChildPool(size=size, memory_mb=settings.child_memory_mb, cpu_seconds=settings.child_cpu_seconds)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """Give an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def nats_check(bus: Bus) -> Callable[[], Awaitable[None]]:
    """Return what raises BusUnavailable while there is no connection."""

    async def check() -> None:
        if not bus.connected:
            raise BusUnavailable("not connected")

    return check


async def pulse(db: Database, bus: Bus, *, process: str) -> None:
    """Keep the gauges of a process right; in `imago dev` it is another process that shows them."""
    while True:
        in_use, limit = db.pool_state()
        metrics.DATABASE_CONNECTIONS.set(in_use)
        metrics.DATABASE_CONNECTIONS_LIMIT.set(limit)
        metrics.BUS_CONNECTED.labels(process).set(bus.connected)
        await asyncio.sleep(_PULSE_SECONDS)
