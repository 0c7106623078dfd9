"""The parts that several kinds of process have; each stops when its block ends.

Parts of a single kind are in that kind's module: a pod that is scaled from zero should import only what it runs.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import structlog

from imago.bootstrap.sandbox import language_data, ocr_command
from imago.db.engine import Database
from imago.db.schema import wait_for_schema
from imago.imaging.sandbox.pool import ChildPool
from imago.maintenance.eager_publisher import EagerPublisher
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.objects.factory import build_store
from imago.objects.store import ObjectStore
from imago.runtime import failpoints
from imago.runtime.cancellation import end_tasks
from imago.runtime.startup import StartupError
from imago.settings import Settings
from imago.settings.environment import unknown_names
from imago.telemetry import metrics
from imago.telemetry.health import Check
from imago.telemetry.logs import configure_logging
from imago.telemetry.tracing import configure_tracing

log = structlog.get_logger(__name__)

# Longer than a migration usually takes.
SCHEMA_SECONDS = 120.0

# Shorter than any scrape interval.
GAUGE_SECONDS = 2.0


def configure_telemetry(settings: Settings, service: str) -> None:
    """Set up logs, traces, metrics and failpoints of a process."""
    failpoints.arm(settings.failpoints)
    configure_logging(level="debug" if settings.debug else settings.log_level, console=settings.debug)
    for warning in unknown_settings():
        log.warning("setting.unknown", message=warning)
    configure_tracing(settings, service=service)
    metrics.set_client_labels(settings.metrics_clients)
    metrics.set_build_info(service)
    if service == "api":
        metrics.init_api_series()


def unknown_settings() -> list[str]:
    """Return warnings about variables that are probably misspelt settings; raise StartupError for one in `.env`."""
    return unknown_names(Settings.model_fields)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


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
async def nats_connection(settings: Settings, *, name: str) -> AsyncIterator[NatsConnection]:
    """Connect to NATS in the background."""
    nats = NatsConnection(settings, name=name)
    await nats.start()
    try:
        yield nats
    finally:
        await nats.close()


@asynccontextmanager
async def object_store(settings: Settings) -> AsyncIterator[ObjectStore]:
    """Open the object store; raise StartupError."""
    store = await build_store(settings)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def eager_publisher(db: Database, publisher: Publisher, *, by: str) -> AsyncIterator[EagerPublisher]:
    """Publish outbox rows in the background, right after their commit."""
    eager = EagerPublisher(db, publisher, by=by)
    await eager.start()
    try:
        yield eager
    finally:
        await eager.close()


@asynccontextmanager
async def child_pool(settings: Settings, *, ocr: bool = False) -> AsyncIterator[ChildPool]:
    """Provide child processes for decoding, and for OCR: one per core unless the settings say otherwise."""
    children = ChildPool(
        size=settings.children,
        memory_mb=settings.child_memory_mb,
        cpu_seconds=settings.child_cpu_seconds,
        readable=language_data(settings),
        command=ocr_command(settings) if ocr else None,
    )
    try:
        yield children
    finally:
        await children.close()


@asynccontextmanager
async def connection_gauges(db: Database, nats: NatsConnection, *, process: str) -> AsyncIterator[None]:
    """Update the gauges of this process's connections; in `imago dev` another process exposes them."""
    updating = asyncio.create_task(_update_gauges(db, nats, process))
    try:
        yield
    finally:
        await end_tasks(updating)


async def _update_gauges(db: Database, nats: NatsConnection, process: str) -> None:
    while True:
        in_use, limit = db.pool_state()
        metrics.DATABASE_CONNECTIONS.set(in_use)
        metrics.DATABASE_CONNECTIONS_LIMIT.set(limit)
        metrics.NATS_CONNECTED.labels(process).set(nats.connected)
        await asyncio.sleep(GAUGE_SECONDS)


def health_checks(db: Database, store: ObjectStore, nats: NatsConnection) -> Mapping[str, Check]:
    """Return the checks of a process's dependencies by name."""
    return {"database": db.check_pages, "storage": store.check, "nats": nats.check}
