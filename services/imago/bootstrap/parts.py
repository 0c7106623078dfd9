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
from imago.maintenance.eager_publisher import EagerPublisher
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.publisher import Publisher
from imago.objects.factory import build_store
from imago.objects.store import ObjectStore
from imago.settings import Settings
from imago.telemetry import metrics

SCHEMA_SECONDS = 120.0

# More often than anybody scrapes.
_PULSE_SECONDS = 2.0


@asynccontextmanager
async def database(settings: Settings, *, wait: bool = True, timeout: float | None = None) -> AsyncIterator[Database]:
    """Give the database, waiting for its schema first; `timeout` replaces the settings' for statements."""
    db = Database.from_settings(settings, timeout=timeout)
    db.on_connection_wait = metrics.DATABASE_WAIT_SECONDS.observe
    try:
        if wait:
            await wait_for_schema(db, timeout=SCHEMA_SECONDS)
        yield db
    finally:
        await db.close()


@asynccontextmanager
async def nats_connection(settings: Settings, *, name: str) -> AsyncIterator[NatsConnection]:
    """Give a connection to NATS that is being made in the background."""
    nats = NatsConnection(settings, name=name)
    await nats.start()
    try:
        yield nats
    finally:
        await nats.close()


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[ObjectStore]:
    """Give the object store."""
    built = await build_store(settings)
    try:
        yield built
    finally:
        await built.close()


@asynccontextmanager
async def eager_publisher(db: Database, publisher: Publisher, *, by: str) -> AsyncIterator[EagerPublisher]:
    """Run an eager publisher for the duration of the block."""
    background = EagerPublisher(db, publisher, by=by)
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


def nats_check(nats: NatsConnection) -> Callable[[], Awaitable[None]]:
    """Return what raises BusUnavailable while there is no connection."""

    async def check() -> None:
        if not nats.connected:
            raise NatsUnavailable("not connected")

    return check


async def pulse(db: Database, nats: NatsConnection, *, process: str) -> None:
    """Keep the gauges of a process right; in `imago dev` it is another process that shows them."""
    while True:
        in_use, limit = db.pool_state()
        metrics.DATABASE_CONNECTIONS.set(in_use)
        metrics.DATABASE_CONNECTIONS_LIMIT.set(limit)
        metrics.NATS_CONNECTED.labels(process).set(nats.connected)
        await asyncio.sleep(_PULSE_SECONDS)
