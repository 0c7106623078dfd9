"""Puts the parts of a process together from the settings, and takes them apart in the opposite order."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from nats.errors import Error as NatsError

from imago.ai.calling import PATIENCES
from imago.ai.fetching import Fetcher
from imago.ai.pages import READING_FUNCTION, READING_SECONDS, READING_TASK, WebPages
from imago.ai.providers import Providers, build_providers
from imago.api.events import EventHub
from imago.api.keys import KeyCache
from imago.api.local_rates import LocalRates
from imago.api.server import PortInUse
from imago.api.services import Services
from imago.api.tokens import Tokens
from imago.api.upload_slots import UploadSlots
from imago.bus.breakers import SharedBreaker
from imago.bus.connection import Bus, BusUnavailable
from imago.bus.publisher import Publisher
from imago.bus.topology import Topology, TopologyConflict, ensure
from imago.database.ai_calls import DatabaseLedger
from imago.database.engine import Database
from imago.database.migrations import wait_for_schema
from imago.database.rates import DatabaseRates
from imago.database.uploads import InlineThumbnail
from imago.domain.failures import StageFailure
from imago.domain.lanes import WorkerLanes, is_dedicated
from imago.domain.stages import WORKER_STAGES, Stage
from imago.settings import Settings
from imago.storage.factory import build_store
from imago.storage.local import LocalStore
from imago.storage.store import ObjectStore
from imago.tasks import end_tasks
from imago.telemetry import metrics
from imago.telemetry.health import Check
from imago.telemetry.provider_calls import ProviderCalls
from imago.telemetry.serving import metrics_server
from imago.upkeep.ai_budgets import AiBudgets
from imago.upkeep.announcer import BackgroundAnnouncer
from imago.upkeep.auditor import Auditor
from imago.upkeep.eraser import Eraser
from imago.upkeep.lanes import LaneMover
from imago.upkeep.observer import Observer
from imago.upkeep.reconciler import Reconciler
from imago.upkeep.relay import Relay
from imago.upkeep.service import ADVISORY_SECONDS, Chore, Upkeep
from imago.upkeep.sessions import end_silent_sessions
from imago.upkeep.sweeper import Sweeper
from imago.workers.children import ChildPool
from imago.workers.service import Worker
from imago.workers.stages.base import StageWork, Tools
from imago.workers.stages.exif import ExifStage
from imago.workers.stages.ocr import OcrStage
from imago.workers.stages.thumbnail import ThumbnailStage, store_thumbnail
from imago.workers.stages.vision import VisionStage

SCHEMA_SECONDS = 120.0

# `last_used_at` of keys may lag behind by this.
KEY_USES_SECONDS = 30.0
# Pages are read in a second; more children would only take memory from uploads.
_READERS = 2
# More often than anybody scrapes.
_PULSE_SECONDS = 2.0


class MissingSetting(Exception):
    """A setting that the process can't do without; the text is one line for a person."""


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


@asynccontextmanager
async def api_services(settings: Settings) -> AsyncIterator[Services]:
    """Give what the API works with, its chores running; raise MissingSetting or ProviderUnavailable."""
    if settings.api_key_pepper is None:
        raise MissingSetting("API_KEY_PEPPER is not set")
    pepper = settings.api_key_pepper.get_secret_value()
    async with database(settings) as db, store(settings) as objects, connected_bus(settings, name="api") as bus:
        publisher = Publisher(bus, timeout=settings.nats_timeout)
        async with (
            ai_providers(settings, db, bus) as providers,
            announcer(db, publisher, by="api") as background,
            _inline(settings, objects) as inline,
            _web_pages(settings) as pages,
        ):
            cache = KeyCache(db, pepper=pepper)
            pulse = asyncio.create_task(_pulse(db, bus, process="api"))
            upkeep = _upkeep(settings, db, bus, publisher, objects, background, cache)
            hub = EventHub(bus)
            await upkeep.start()
            await hub.start()
            try:
                yield Services(
                    settings=settings,
                    db=db,
                    store=objects,
                    announcer=background,
                    keys=cache,
                    checks={"database": db.check, "storage": objects.check, "nats": _nats_check(bus)},
                    exposition=metrics.exposition,
                    texts=providers.texts,
                    pages=pages,
                    events=hub,
                    local_file=objects.path if isinstance(objects, LocalStore) else None,
                    inline_thumbnail=inline,
                    rates=LocalRates() if db.is_sqlite else DatabaseRates(db),
                    uploads=UploadSlots(settings),
                    tokens=_tokens(settings),
                    ensure_lane=_lane_ensurer(settings, bus),
                    move_lanes=upkeep.nudger("lanes"),
                    wake_held=upkeep.nudger("ai-budgets"),
                )
            finally:
                await hub.close()
                await upkeep.close()
                await end_tasks(pulse)


def _upkeep(
    settings: Settings,
    db: Database,
    bus: Bus,
    publisher: Publisher,
    objects: ObjectStore,
    background: BackgroundAnnouncer,
    keys: KeyCache,
) -> Upkeep:
    relay = Relay(db, bus, publisher)
    reconciler = Reconciler(settings, db, bus, background)
    sweeper = Sweeper(db, objects)
    auditor = Auditor(settings, db, objects)
    budgets = AiBudgets(settings, db)
    observer = Observer(db, bus)
    silent_for = timedelta(seconds=settings.database_timeout)
    return Upkeep(
        db,
        (
            # On PostgreSQL relays share the rows among them; SQLite can't lock single rows.
            Chore("relay", settings.relay_interval, relay.run_once, shared=not db.is_sqlite),
            Chore("reconciler", settings.reconcile_interval, reconciler.run_once),
            # Whoever changed a client's lane nudges its own process.
            Chore("lanes", settings.reconcile_interval, LaneMover(db, background).run_once, shared=True),
            # Whoever changed a client's limits nudges its own process.
            Chore("ai-budgets", settings.reconcile_interval, budgets.run_once, shared=True),
            Chore("ai-calls", settings.sweep_interval, budgets.clean_up),
            Chore("eraser", settings.sweep_interval, Eraser(db, bus).run_once),
            Chore("key-uses", KEY_USES_SECONDS, keys.write_uses, shared=True),
            Chore("advisories", ADVISORY_SECONDS, reconciler.read_advisories),
            Chore("auditor", settings.audit_interval, auditor.run_once, forget=auditor.forget),
            Chore("observer", settings.observe_interval, observer.run_once, forget=observer.forget),
            Chore("sweeper", settings.sweep_interval, sweeper.run_once),
            # Without a lease: its holder may be the very process that froze.
            Chore("sessions", settings.database_timeout / 2, partial(end_silent_sessions, db, silent_for), shared=True),
        ),
    )


@asynccontextmanager
async def _inline(
    settings: Settings, objects: ObjectStore
) -> AsyncIterator[Callable[[str, str], Awaitable[InlineThumbnail | None]] | None]:
    """Give what makes thumbnails during uploads, in child processes like the stage; None in deferred mode."""
    if settings.thumbnail_mode != "inline":
        yield None
        return
    children = child_pool(settings)

    tools = Tools(settings, objects, children)

    async def make(original: str, target: str) -> InlineThumbnail | None:
        with tempfile.TemporaryDirectory(prefix="imago-") as directory:
            try:
                return InlineThumbnail(target, await store_thumbnail(tools, original, target, Path(directory)))
            except (StageFailure, OSError):
                # The stage will find out what is wrong, and say so.
                return None

    try:
        yield make
    finally:
        await children.close()


@asynccontextmanager
async def _web_pages(settings: Settings) -> AsyncIterator[WebPages]:
    """Give what reads web pages, in child processes of their own that start with the first page."""
    children = ChildPool(
        size=_READERS,
        memory_mb=settings.child_memory_mb,
        cpu_seconds=READING_SECONDS,
        extra_tasks=(f"{READING_TASK}={READING_FUNCTION}",),
    )
    pages = WebPages(Fetcher(), children)
    try:
        yield pages
    finally:
        await pages.close()
        await children.close()


@asynccontextmanager
async def ai_providers(settings: Settings, db: Database, bus: Bus) -> AsyncIterator[Providers]:
    """Give the AI providers with their ledger, breakers and metrics; raise ProviderUnavailable."""
    observer = ProviderCalls()
    # As long as one answer may take with its retry, its repair and a second provider.
    probe = timedelta(seconds=PATIENCES * settings.ai_timeout)
    breaker = SharedBreaker(bus, probe=probe, observer=observer)
    providers = build_providers(settings, ledger=DatabaseLedger(db), breaker=breaker, observer=observer)
    try:
        yield providers
    finally:
        await providers.close()


@asynccontextmanager
async def worker(settings: Settings, kind: str) -> AsyncIterator[Worker]:
    """Give a worker of a kind: `exif`, `ocr` or `vision`."""
    async with (
        database(settings) as db,
        store(settings) as objects,
        connected_bus(settings, name=f"worker-{kind}") as bus,
        _worker_providers(settings, kind, db, bus) as providers,
        announcer(db, Publisher(bus, timeout=settings.nats_timeout), by="worker") as background,
    ):
        children = child_pool(settings)
        lanes = WorkerLanes.parse(settings.worker_lanes)
        metrics.announce_worker(kind, WORKER_STAGES[kind], jobs=settings.worker_max_jobs, lanes=lanes)
        pulse = asyncio.create_task(_pulse(db, bus, process=f"worker-{kind}"))
        checks = {"database": db.check, "storage": objects.check, "nats": _nats_check(bus)}
        try:
            tools = Tools(settings, objects, children)
            stages = {stage: _stage(stage, tools, providers) for stage in WORKER_STAGES[kind]}
            async with _metrics_port(settings, checks):
                yield Worker(settings=settings, db=db, bus=bus, announcer=background, stages=stages)
        finally:
            await end_tasks(pulse)
            await children.close()


@asynccontextmanager
async def _worker_providers(settings: Settings, kind: str, db: Database, bus: Bus) -> AsyncIterator[Providers | None]:
    """Give the AI providers to the workers that need any; the others need neither their keys nor their settings."""
    if kind == "vision" or (kind == "ocr" and settings.ocr_fallback == "ai"):
        async with ai_providers(settings, db, bus) as providers:
            yield providers
    else:
        yield None


@asynccontextmanager
async def _metrics_port(settings: Settings, checks: Mapping[str, Check]) -> AsyncIterator[None]:
    """Serve metrics and health on `METRICS_PORT` where it is set; raise PortInUse."""
    if settings.metrics_port is None:
        yield
        return
    try:
        server = metrics_server(settings.host, settings.metrics_port, exposition=metrics.exposition, checks=checks)
        async with server:
            yield
    except OSError as error:
        raise PortInUse(f"can't listen on {settings.host}:{settings.metrics_port}: {error.strerror}") from error


def _stage(stage: Stage, tools: Tools, providers: Providers | None) -> StageWork:
    match stage:
        case Stage.THUMBNAIL:
            return ThumbnailStage(tools)
        case Stage.EXIF:
            return ExifStage(tools)
        case Stage.OCR:
            return OcrStage(tools, providers.reader if providers is not None else None)
        case Stage.VISION:
            if providers is None:
                raise RuntimeError("the vision stage has no provider")
            return VisionStage(tools, providers.vision)


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


def _tokens(settings: Settings) -> Tokens | None:
    return Tokens(settings.jwt_secret_key.get_secret_value()) if settings.jwt_secret_key else None


def _lane_ensurer(settings: Settings, bus: Bus) -> Callable[[str], Awaitable[None]]:
    async def ensure_lane(lane: str) -> None:
        if not is_dedicated(lane):
            # `imago topology` and the reconciler see to those that all share.
            return
        if not bus.connected:
            raise BusUnavailable("not connected")
        try:
            topology = Topology(replicas=settings.nats_replicas, ack_wait=settings.ack_wait)
            await ensure(bus.js, lanes=(lane,), topology=topology)
        except (NatsError, OSError, TopologyConflict) as error:
            raise BusUnavailable(type(error).__name__) from error

    return ensure_lane


def _nats_check(bus: Bus) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        if not bus.connected:
            raise BusUnavailable("not connected")

    return check


async def _pulse(db: Database, bus: Bus, *, process: str) -> None:
    """Keep the gauges of a process right; in `imago dev` it is another process that shows them."""
    while True:
        in_use, limit = db.pool_state()
        metrics.DATABASE_CONNECTIONS.set(in_use)
        metrics.DATABASE_CONNECTIONS_LIMIT.set(limit)
        metrics.BUS_CONNECTED.labels(process).set(bus.connected)
        await asyncio.sleep(_PULSE_SECONDS)
