"""The worker process."""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from imago.ai.provider_chain import provider_chain
from imago.bootstrap.embedding import image_embedding
from imago.bootstrap.parts import (
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
from imago.core.jobs.stages import WORKER_KINDS, WORKER_STAGES, Stage, server_workers
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.db.engine import Database
from imago.embedding.model import EmbeddingModel
from imago.geocoding.build import places_path
from imago.geocoding.geocoder import Geocoder
from imago.imaging.sandbox.pool import ChildPool
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.runtime.startup import StartupError
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.health import Check
from imago.telemetry.serving import metrics_server
from imago.worker.service import Worker
from imago.worker.stages.base import StageTools
from imago.worker.stages.handlers import HANDLERS

if TYPE_CHECKING:
    from imago.ai.factory import Providers

log = structlog.get_logger(__name__)


async def run_worker(settings: Settings, kind: str) -> None:
    """Run a worker of a kind (`exif`, `ocr`, `vision` or `embed`) until SIGINT or SIGTERM; raise StartupError."""
    configure_telemetry(settings, f"worker-{kind}")
    check_sandbox(settings)
    with stop_on_signals() as stop:
        async with worker(settings, kind) as running:
            log.info("worker.started", kind=kind, lanes=settings.worker_lanes)
            await running.run(stop)


@asynccontextmanager
async def worker(settings: Settings, kind: str) -> AsyncIterator[Worker]:
    """Start the parts of a worker, and stop them in reverse order."""
    name = f"worker-{kind}"
    if kind not in server_workers(settings.stages_off):
        raise StartupError(f"the worker {kind} needs EMBED_MODEL_DIR, and its stage enabled")
    if _calls_providers(settings, kind):
        provider_chain(settings)
    async with (
        database(settings) as db,
        object_store(settings) as store,
        nats_connection(settings, name=name) as nats,
        _providers(settings, kind, db, nats) as providers,
        eager_publisher(db, Publisher(nats, timeout=settings.nats_timeout), by="worker") as publisher,
        _children(settings, kind) as (embedding, children),
        _geocoder(settings, kind) as geocoder,
        connection_gauges(db, nats, process=name),
    ):
        lanes = WorkerLanes.parse(settings.worker_lanes)
        metrics.init_worker_series(kind, WORKER_STAGES[kind], jobs=settings.worker_max_jobs, lanes=lanes)
        tools = StageTools(
            settings,
            store,
            children,
            vision=providers.vision if providers else None,
            recognizer=providers.recognizer() if providers else None,
            ocr=providers.ocr if providers else None,
            geocoder=geocoder,
            embedding=embedding,
        )
        stages = {stage: HANDLERS[stage](tools) for stage in WORKER_STAGES[kind]}
        async with _metrics_port(settings, health_checks(db, store, nats)):
            yield Worker(settings=settings, db=db, nats=nats, outbox_publisher=publisher, handlers=stages)


@asynccontextmanager
async def _providers(
    settings: Settings, kind: str, db: Database, nats: NatsConnection
) -> AsyncIterator["Providers | None"]:
    """Provide AI providers to the workers that use them; the others do without their keys and their imports."""
    if _calls_providers(settings, kind):
        from imago.bootstrap.ai import ai_providers

        async with ai_providers(settings, db, nats) as providers:
            yield providers
    else:
        yield None


@asynccontextmanager
async def _children(settings: Settings, kind: str) -> AsyncIterator[tuple[EmbeddingModel | None, ChildPool]]:
    """Provide child processes; those that embed images can read the model, which is provided too."""
    if kind == WORKER_KINDS[Stage.EMBED]:
        async with image_embedding(settings) as model_and_children:
            yield model_and_children
    else:
        async with child_pool(settings, ocr=kind == "ocr") as children:
            yield None, children


@asynccontextmanager
async def _geocoder(settings: Settings, kind: str) -> AsyncIterator[Geocoder | None]:
    """Provide the geocoder to the worker that reads coordinates; images have no place names without its file."""
    if kind != WORKER_KINDS[Stage.EXIF] or settings.geocode == "off":
        yield None
        return
    path = places_path(settings.model_dir)
    try:
        geocoder = Geocoder(path)
    except sqlite3.Error as error:
        log.warning("geocoder.unavailable", path=str(path), error=str(error), remedy="python -m imago.geocoding.build")
        yield None
        return
    try:
        yield geocoder
    finally:
        geocoder.close()


def _calls_providers(settings: Settings, kind: str) -> bool:
    return kind == "vision" or (kind == "ocr" and settings.ocr_fallback == "ai")


@asynccontextmanager
async def _metrics_port(settings: Settings, checks: Mapping[str, Check]) -> AsyncIterator[None]:
    """Serve metrics and health on `METRICS_PORT` if it is set; raise StartupError."""
    async with AsyncExitStack() as stack:
        if settings.metrics_port is not None:
            address = settings.host, settings.metrics_port
            try:
                server = metrics_server(*address, exposition=metrics.exposition, checks=checks)
                await stack.enter_async_context(server)
            except OSError as error:
                raise StartupError("cannot listen on {}:{}: {}".format(*address, error.strerror)) from error
        yield
