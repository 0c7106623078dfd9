"""The API process."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from nats.errors import Error as NatsError

from imago.ai.provider_chain import provider_chain
from imago.api.auth.key_cache import KeyCache
from imago.api.auth.local_rates import LocalRates
from imago.api.auth.tokens import Tokens
from imago.api.events.hub import EventHub
from imago.api.http.services import (
    AiServices,
    AuthServices,
    ClientServices,
    HealthServices,
    InlineThumbnailer,
    Services,
    UploadServices,
)
from imago.api.server.server import serving
from imago.api.uploads.slots import UploadSlots
from imago.bootstrap.ai import ai_providers
from imago.bootstrap.embedding import query_embedding
from imago.bootstrap.maintenance import maintenance_scheduler
from imago.bootstrap.meaning import query_meaning
from imago.bootstrap.parts import (
    GAUGE_SECONDS,
    child_pool,
    configure_telemetry,
    connection_gauges,
    database,
    eager_publisher,
    health_checks,
    nats_connection,
    object_store,
    stop_on_signals,
)
from imago.bootstrap.sandbox import check_sandbox
from imago.core.clients.rate_limits import DatabaseRates
from imago.core.images.lists.countries import load_countries
from imago.core.images.queries import ImageReads
from imago.core.images.search.pages import ImageSearch
from imago.core.jobs.failures import StageFailure
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import is_dedicated
from imago.core.uploads.model import InlineThumbnail
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.imaging.ocr.trained_data import installed_languages
from imago.imaging.sandbox.pool import ChildPool, time_limit
from imago.maintenance.scheduler import MaintenanceScheduler
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.lag import queue_lag
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamConflict, StreamOptions, ensure_streams
from imago.objects.local import LocalStore
from imago.objects.store import ObjectStore
from imago.runtime.cancellation import end_tasks
from imago.runtime.shares import FairShares
from imago.runtime.startup import StartupError, bind
from imago.settings import Settings
from imago.settings.uploads import MB
from imago.telemetry import metrics
from imago.web.fetch import PageFetcher
from imago.web.pages import EXTRACT_FUNCTION, EXTRACT_SECONDS, EXTRACT_TASK, WebPages
from imago.worker.stages.base import StageTools
from imago.worker.stages.thumbnail import store_thumbnail

log = structlog.get_logger(__name__)

# A page is read within a second; more children would take memory from uploads.
_PAGE_READERS = 2


async def run_api(settings: Settings, *, fd: int | None = None) -> None:
    """Serve the API until SIGINT or SIGTERM; `fd` is an inherited listening socket. Raises StartupError."""
    configure_telemetry(settings, "api")
    check_sandbox(settings)
    listener = bind(settings.host, settings.port) if fd is None else socket.socket(fileno=fd)
    with stop_on_signals() as stop:
        async with api_services(settings) as services, serving(services, listener):
            log.info("api.started", host=settings.host, port=listener.getsockname()[1])
            await stop.wait()
            log.info("api.stopping")


@asynccontextmanager
async def api_services(settings: Settings) -> AsyncIterator[Services]:
    """Start the parts of an API process, and stop them in reverse order; raise StartupError."""
    pepper = _pepper(settings)
    provider_chain(settings)
    await asyncio.to_thread(load_countries)
    async with (
        database(settings) as db,
        object_store(settings) as store,
        nats_connection(settings, name="api") as nats,
        connection_gauges(db, nats, process="api"),
        _services(settings, db, store, nats, KeyCache(db, pepper=pepper)) as services,
    ):
        yield services


@asynccontextmanager
async def _services(
    settings: Settings, db: Database, store: ObjectStore, nats: NatsConnection, keys: KeyCache
) -> AsyncIterator[Services]:
    publisher = Publisher(nats, timeout=settings.nats_timeout)
    async with (
        ai_providers(settings, db, nats) as providers,
        eager_publisher(db, publisher, by="api") as outbox,
        _inline_thumbnailer(settings, store) as inline_thumbnail,
        _web_pages(settings) as pages,
        query_meaning(settings) as meaning,
        query_embedding(settings) as embedding,
        maintenance_scheduler(settings, db, store, nats, publisher, outbox, keys) as scheduler,
        _event_hub(nats) as events,
        _request_memory(settings) as memory,
    ):
        uploads, slots = Uploads(db), UploadSlots(settings)
        yield Services(
            settings=settings,
            db=db,
            store=store,
            outbox_publisher=outbox,
            auth=_auth_services(settings, db, keys),
            clients=_client_services(settings, nats, scheduler),
            uploads=UploadServices(settings, db, store, outbox, uploads, slots, inline_thumbnail),
            images=ImageReads(db),
            search=ImageSearch(db, meaning, embedding),
            ai=AiServices(providers.texts, pages),
            events=events,
            local_file=store.servable if isinstance(store, LocalStore) else None,
            health=HealthServices(health_checks(db, store, nats), metrics.exposition, partial(queue_lag, nats)),
            memory=memory,
        )


def _pepper(settings: Settings) -> str:
    if settings.api_key_pepper is None:
        raise StartupError("API_KEY_PEPPER is not set")
    return settings.api_key_pepper.get_secret_value()


def _auth_services(settings: Settings, db: Database, keys: KeyCache) -> AuthServices:
    return AuthServices(
        keys,
        client_rates=LocalRates() if db.is_sqlite else DatabaseRates(db),
        tokens=Tokens(settings.jwt_secret_key.get_secret_value()) if settings.jwt_secret_key else None,
    )


def _client_services(settings: Settings, nats: NatsConnection, scheduler: MaintenanceScheduler) -> ClientServices:
    return ClientServices(
        ensure_lane=_lane_ensurer(settings, nats),
        move_lanes=partial(scheduler.trigger, "lanes"),
        wake_parked=partial(scheduler.trigger, "ai-budgets"),
        ocr_languages=_readable_languages(settings),
    )


def _readable_languages(settings: Settings) -> tuple[str, ...]:
    """Return the languages that clients may choose: those of this machine, or those that the settings name."""
    if settings.ocr_installed_languages:
        return tuple(settings.ocr_installed_languages.split("+"))
    return installed_languages(settings.tessdata_dir) or tuple(settings.ocr_languages.split("+"))


@asynccontextmanager
async def _request_memory(settings: Settings) -> AsyncIterator[FairShares]:
    """Provide the memory for requests, and expose how much of it is held."""
    memory = FairShares(settings.request_memory_mb * MB)
    metrics.MEMORY_LIMIT.set(memory.total)

    async def update() -> None:
        while True:
            metrics.MEMORY_HELD.set(memory.used)
            await asyncio.sleep(GAUGE_SECONDS)

    updating = asyncio.create_task(update(), name="memory-gauge")
    try:
        yield memory
    finally:
        await end_tasks(updating)


@asynccontextmanager
async def _event_hub(nats: NatsConnection) -> AsyncIterator[EventHub]:
    hub = EventHub(nats)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.close()


@asynccontextmanager
async def _inline_thumbnailer(settings: Settings, store: ObjectStore) -> AsyncIterator[InlineThumbnailer | None]:
    """Provide thumbnails during uploads, made in child processes as the stage does; None in deferred mode."""
    if settings.thumbnail_mode != "inline":
        yield None
        return
    async with child_pool(settings) as children:
        yield inline_thumbnailer(StageTools(settings, store, children))


def inline_thumbnailer(tools: StageTools) -> InlineThumbnailer:
    """Return what makes thumbnails during uploads, with the limits of the stage."""
    limit = tools.settings.stage_timeout(Stage.THUMBNAIL)

    async def make(original: str, target: str, *, client: int, pixels: int) -> InlineThumbnail | None:
        with tempfile.TemporaryDirectory(prefix="imago-") as directory:
            try:
                async with time_limit(limit, client=client):
                    made = await store_thumbnail(tools, original, target, Path(directory), pixels=pixels)
            except (StageFailure, OSError):
                # The stage will fail the same way and report why.
                return None
        return InlineThumbnail(target, made)

    return make


@asynccontextmanager
async def _web_pages(settings: Settings) -> AsyncIterator[WebPages]:
    """Provide web pages, parsed in separate child processes that start with the first page."""
    children = ChildPool(
        size=_PAGE_READERS,
        memory_mb=settings.child_memory_mb,
        cpu_seconds=EXTRACT_SECONDS,
        extra_tasks=(f"{EXTRACT_TASK}={EXTRACT_FUNCTION}",),
    )
    pages = WebPages(PageFetcher(), children, readers=_PAGE_READERS)
    try:
        yield pages
    finally:
        await pages.close()
        await children.close()


def _lane_ensurer(settings: Settings, nats: NatsConnection) -> Callable[[str], Awaitable[None]]:
    async def ensure_lane(lane: str) -> None:
        if not is_dedicated(lane):
            # `imago topology` and the reconciler create the streams of shared lanes.
            return
        await nats.check()
        try:
            options = StreamOptions.of(settings)
            await ensure_streams(nats.js, lanes=(lane,), options=options)
        except (NatsError, OSError, StreamConflict) as error:
            raise NatsUnavailable(type(error).__name__) from error

    return ensure_lane
