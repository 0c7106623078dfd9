"""Puts an API process together from the settings, with its chores, and takes it apart in the opposite order."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from nats.errors import Error as NatsError

from imago.api.auth.key_cache import KeyCache
from imago.api.auth.local_rates import LocalRates
from imago.api.auth.tokens import Tokens
from imago.api.events.hub import EventHub
from imago.api.services import AiServices, AuthServices, ClientServices, HealthServices, Services, UploadServices
from imago.api.uploads.slots import UploadSlots
from imago.bootstrap.ai import ai_providers
from imago.bootstrap.parts import child_pool, database, eager_publisher, nats_check, nats_connection, pulse, store
from imago.cancellation import end_tasks
from imago.core.clients.rate_limits import DatabaseRates
from imago.core.images.queries import ImageReads
from imago.core.jobs.failures import StageFailure
from imago.core.lanes.model import is_dedicated
from imago.core.uploads.model import InlineThumbnail
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.imaging.sandbox.pool import ChildPool
from imago.maintenance.budget_waker import BudgetWaker
from imago.maintenance.client_eraser import ClientEraser
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.lane_migrator import LaneMigrator
from imago.maintenance.metrics_collector import MetricsCollector
from imago.maintenance.object_cleaner import ObjectCleaner
from imago.maintenance.outbox_relay import OutboxRelay
from imago.maintenance.scheduler import ADVISORY_INTERVAL, MaintenanceScheduler, PeriodicTask
from imago.maintenance.session_reaper import end_silent_sessions
from imago.maintenance.storage_auditor import StorageAuditor
from imago.maintenance.stream_reconciler import StreamReconciler
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamConflict, StreamOptions, ensure_streams
from imago.objects.local import LocalStore
from imago.objects.store import ObjectStore
from imago.settings import Settings
from imago.telemetry import metrics
from imago.web.fetch import Fetcher
from imago.web.pages import READING_FUNCTION, READING_SECONDS, READING_TASK, WebPages
from imago.worker.stages.base import Tools
from imago.worker.stages.thumbnail import store_thumbnail

# `last_used_at` of keys may lag behind by this.
KEY_USES_SECONDS = 30.0
# Pages are read in a second; more children would only take memory from uploads.
_READERS = 2


class MissingSetting(Exception):
    """A setting that the process can't do without; the text is one line for a person."""


@asynccontextmanager
async def api_services(settings: Settings) -> AsyncIterator[Services]:
    """Give what the API works with, its chores running; raise MissingSetting or ProviderUnavailable."""
    if settings.api_key_pepper is None:
        raise MissingSetting("API_KEY_PEPPER is not set")
    pepper = settings.api_key_pepper.get_secret_value()
    async with database(settings) as db, store(settings) as objects, nats_connection(settings, name="api") as nats:
        publisher = Publisher(nats, timeout=settings.nats_timeout)
        async with (
            ai_providers(settings, db, nats) as providers,
            eager_publisher(db, publisher, by="api") as background,
            _inline(settings, objects) as inline,
            _web_pages(settings) as pages,
        ):
            cache = KeyCache(db, pepper=pepper)
            pulsing = asyncio.create_task(pulse(db, nats, process="api"))
            maintenance = _maintenance_scheduler(settings, db, nats, publisher, objects, background, cache)
            hub = EventHub(nats)
            await maintenance.start()
            await hub.start()
            try:
                yield Services(
                    settings=settings,
                    db=db,
                    store=objects,
                    announcer=background,
                    auth=AuthServices(
                        keys=cache,
                        client_rates=LocalRates() if db.is_sqlite else DatabaseRates(db),
                        tokens=_tokens(settings),
                    ),
                    clients=ClientServices(
                        ensure_lane=_lane_ensurer(settings, nats),
                        move_lanes=maintenance.trigger("lanes"),
                        wake_parked=maintenance.trigger("ai-budgets"),
                    ),
                    uploads=UploadServices(
                        settings, db, objects, background, Uploads(db), UploadSlots(settings), inline_thumbnail=inline
                    ),
                    images=ImageReads(db),
                    ai=AiServices(providers.texts, pages),
                    events=hub,
                    local_file=objects.path if isinstance(objects, LocalStore) else None,
                    health=HealthServices(
                        checks={"database": db.check, "storage": objects.check, "nats": nats_check(nats)},
                        exposition=metrics.exposition,
                    ),
                )
            finally:
                await hub.close()
                await maintenance.close()
                await end_tasks(pulsing)


def _maintenance_scheduler(
    settings: Settings,
    db: Database,
    nats: NatsConnection,
    publisher: Publisher,
    objects: ObjectStore,
    background: EagerPublisher,
    keys: KeyCache,
) -> MaintenanceScheduler:
    relay = OutboxRelay(db, nats, publisher)
    reconciler = StreamReconciler(settings, db, nats, background)
    sweeper = ObjectCleaner(db, objects)
    auditor = StorageAuditor(settings, db, objects)
    budgets = BudgetWaker(settings, db)
    observer = MetricsCollector(db, nats)
    silent_for = timedelta(seconds=settings.database_timeout)
    return MaintenanceScheduler(
        db,
        (
            # On PostgreSQL relays share the rows among them; SQLite can't lock single rows.
            PeriodicTask("relay", settings.relay_interval, relay.run_once, shared=not db.is_sqlite),
            PeriodicTask("reconciler", settings.reconcile_interval, reconciler.run_once),
            # Whoever changed a client's lane triggers the task in its own process.
            PeriodicTask("lanes", settings.reconcile_interval, LaneMigrator(db, background).run_once, shared=True),
            # Whoever changed a client's limits triggers the task in its own process.
            PeriodicTask("ai-budgets", settings.reconcile_interval, budgets.run_once, shared=True),
            PeriodicTask("ai-calls", settings.sweep_interval, budgets.clean_up),
            PeriodicTask("eraser", settings.sweep_interval, ClientEraser(db, nats).run_once),
            PeriodicTask("key-uses", KEY_USES_SECONDS, keys.write_uses, shared=True),
            PeriodicTask("advisories", ADVISORY_INTERVAL, reconciler.read_advisories),
            PeriodicTask("auditor", settings.audit_interval, auditor.run_once, on_lease_lost=auditor.clear),
            PeriodicTask("observer", settings.observe_interval, observer.run_once, on_lease_lost=observer.clear),
            PeriodicTask("sweeper", settings.sweep_interval, sweeper.run_once),
            # Without a lease: its holder may be the very process that froze.
            PeriodicTask(
                "sessions", settings.database_timeout / 2, partial(end_silent_sessions, db, silent_for), shared=True
            ),
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


def _tokens(settings: Settings) -> Tokens | None:
    return Tokens(settings.jwt_secret_key.get_secret_value()) if settings.jwt_secret_key else None


def _lane_ensurer(settings: Settings, nats: NatsConnection) -> Callable[[str], Awaitable[None]]:
    async def ensure_lane(lane: str) -> None:
        if not is_dedicated(lane):
            # `imago topology` and the reconciler see to those that all share.
            return
        if not nats.connected:
            raise NatsUnavailable("not connected")
        try:
            options = StreamOptions(replicas=settings.nats_replicas, ack_wait=settings.ack_wait)
            await ensure_streams(nats.js, lanes=(lane,), options=options)
        except (NatsError, OSError, StreamConflict) as error:
            raise NatsUnavailable(type(error).__name__) from error

    return ensure_lane
