"""Puts a worker together from the settings, and takes it apart in the opposite order."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from imago.bootstrap.parts import child_pool, database, eager_publisher, nats_check, nats_connection, pulse, store
from imago.cancellation import end_tasks
from imago.core.jobs.stages import WORKER_STAGES, Stage
from imago.core.lanes.model import WorkerLanes
from imago.db.engine import Database
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.settings import Settings
from imago.startup import PortInUse
from imago.telemetry import metrics
from imago.telemetry.health import Check
from imago.telemetry.serving import metrics_server
from imago.worker.service import Worker
from imago.worker.stages.base import StageWork, Tools
from imago.worker.stages.exif import ExifStage
from imago.worker.stages.ocr import OcrStage
from imago.worker.stages.thumbnail import ThumbnailStage
from imago.worker.stages.vision import VisionStage

if TYPE_CHECKING:
    from imago.ai.factory import Providers


@asynccontextmanager
async def worker(settings: Settings, kind: str) -> AsyncIterator[Worker]:
    """Give a worker of a kind: `exif`, `ocr` or `vision`."""
    async with (
        database(settings) as db,
        store(settings) as objects,
        nats_connection(settings, name=f"worker-{kind}") as nats,
        _worker_providers(settings, kind, db, nats) as providers,
        eager_publisher(db, Publisher(nats, timeout=settings.nats_timeout), by="worker") as background,
    ):
        children = child_pool(settings)
        lanes = WorkerLanes.parse(settings.worker_lanes)
        metrics.init_worker_series(kind, WORKER_STAGES[kind], jobs=settings.worker_max_jobs, lanes=lanes)
        pulsing = asyncio.create_task(pulse(db, nats, process=f"worker-{kind}"))
        checks = {"database": db.check, "storage": objects.check, "nats": nats_check(nats)}
        try:
            tools = Tools(settings, objects, children)
            stages = {stage: _stage(stage, tools, providers) for stage in WORKER_STAGES[kind]}
            async with _metrics_port(settings, checks):
                yield Worker(settings=settings, db=db, nats=nats, announcer=background, stages=stages)
        finally:
            await end_tasks(pulsing)
            await children.close()


@asynccontextmanager
async def _worker_providers(
    settings: Settings, kind: str, db: Database, nats: NatsConnection
) -> AsyncIterator["Providers | None"]:
    """Give the AI providers to the workers that need any; the others need neither their keys nor their settings."""
    if kind == "vision" or (kind == "ocr" and settings.ocr_fallback == "ai"):
        from imago.bootstrap.ai import ai_providers

        async with ai_providers(settings, db, nats) as providers:
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


def _stage(stage: Stage, tools: Tools, providers: "Providers | None") -> StageWork:
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
