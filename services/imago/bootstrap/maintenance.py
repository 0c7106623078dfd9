"""The maintenance tasks of every API process; for most of them, a lease lets one process at a time run the task."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from imago.api.auth.key_cache import KeyCache
from imago.db.engine import Database
from imago.maintenance.budget_waker import BudgetWaker
from imago.maintenance.client_eraser import ClientEraser
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.lane_migrator import LaneMigrator
from imago.maintenance.metrics_collector import MetricsCollector
from imago.maintenance.object_cleaner import ObjectCleaner
from imago.maintenance.outbox_relay import OutboxRelay
from imago.maintenance.reprocess_runner import ReprocessRunner
from imago.maintenance.scheduler import MaintenanceScheduler, PeriodicTask
from imago.maintenance.search_reindexer import SearchReindexer
from imago.maintenance.session_reaper import SessionReaper
from imago.maintenance.stage_closer import StageCloser
from imago.maintenance.storage_auditor import StorageAuditor
from imago.maintenance.stream_reconciler import StreamReconciler
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.objects.store import ObjectStore
from imago.settings import Settings

# `last_used_at` of keys may lag by this.
KEY_USES_SECONDS = 30.0
# An advisory waits at most this long.
ADVISORY_SECONDS = 5.0


@asynccontextmanager
async def maintenance_scheduler(
    settings: Settings,
    db: Database,
    store: ObjectStore,
    nats: NatsConnection,
    publisher: Publisher,
    eager_publisher: EagerPublisher,
    keys: KeyCache,
) -> AsyncIterator[MaintenanceScheduler]:
    """Run the maintenance tasks."""
    scheduler = MaintenanceScheduler(
        db,
        (
            *_job_tasks(settings, db, nats, publisher, eager_publisher),
            *_storage_tasks(settings, db, store, nats),
            *_database_tasks(settings, db, keys),
        ),
    )
    await scheduler.start()
    try:
        yield scheduler
    finally:
        await scheduler.close()


def _job_tasks(
    settings: Settings, db: Database, nats: NatsConnection, publisher: Publisher, eager_publisher: EagerPublisher
) -> tuple[PeriodicTask, ...]:
    relay = OutboxRelay(db, nats, publisher)
    reconciler = StreamReconciler(settings, db, nats, eager_publisher)
    closer = StageCloser(db, nats, eager_publisher, stages_off=settings.stages_off)
    collector = MetricsCollector(db, nats)
    reprocessing = ReprocessRunner(settings, db, eager_publisher)
    return (
        # On PostgreSQL relays share the rows among them; SQLite cannot lock single rows.
        PeriodicTask("relay", settings.relay_interval, relay.run_once, shared=not db.is_sqlite),
        PeriodicTask("reconciler", settings.reconcile_interval, reconciler.run_once),
        PeriodicTask("disabled-stages", settings.reconcile_interval, closer.run_once),
        PeriodicTask("advisories", ADVISORY_SECONDS, reconciler.read_advisories),
        # Shared, because the process that changed a client's lane triggers its own task.
        PeriodicTask("lanes", settings.reconcile_interval, LaneMigrator(db, eager_publisher).run_once, shared=True),
        PeriodicTask("reprocess", settings.reprocess_interval, reprocessing.run_once, on_lease_lost=reprocessing.clear),
        PeriodicTask("observer", settings.observe_interval, collector.run_once, on_lease_lost=collector.clear),
    )


def _storage_tasks(
    settings: Settings, db: Database, store: ObjectStore, nats: NatsConnection
) -> tuple[PeriodicTask, ...]:
    auditor = StorageAuditor(settings, db, store)
    return (
        PeriodicTask("sweeper", settings.sweep_interval, ObjectCleaner(db, store).run_once),
        PeriodicTask("eraser", settings.sweep_interval, ClientEraser(db, nats).run_once),
        PeriodicTask("auditor", settings.audit_interval, auditor.run_once, on_lease_lost=auditor.clear),
    )


def _database_tasks(settings: Settings, db: Database, keys: KeyCache) -> tuple[PeriodicTask, ...]:
    budgets = BudgetWaker(settings, db)
    reaper = SessionReaper(db, frozen_for=timedelta(seconds=settings.database_timeout))
    return (
        # Shared, because the process that changed a client's limits triggers its own task.
        PeriodicTask("ai-budgets", settings.reconcile_interval, budgets.run_once, shared=True),
        PeriodicTask("search-index", settings.reconcile_interval, SearchReindexer(db).run_once),
        PeriodicTask("ai-calls", settings.sweep_interval, budgets.clean_up),
        PeriodicTask("key-uses", KEY_USES_SECONDS, keys.write_uses, shared=True),
        # Without a lease, because the process that holds it may be the one that froze.
        PeriodicTask("sessions", settings.database_timeout / 2, reaper.run_once, shared=True),
    )
