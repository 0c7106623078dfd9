"""Responses of the health checks and of the root."""

from collections.abc import Iterable
from typing import Literal

from typing_extensions import TypedDict

from imago import __version__
from imago.ai.provider_chain import provider_chain
from imago.core.jobs.stages import WORKER_STAGES, Stage, server_workers
from imago.nats.lag import QueueLag
from imago.settings import Settings
from imago.telemetry.health import DetailedHealth


class RootResponse(TypedDict):
    """The name and version of the service, and the paths of its documentation."""

    name: str
    version: str
    docs: str
    openapi: str


class HealthResponse(TypedDict):
    """Whether the process is alive, or ready."""

    status: Literal["ok", "draining"]


class WorkersHealth(TypedDict):
    """The work of a kind of worker. Without open requests and runs, no worker of this kind runs."""

    stages: list[Stage]
    open_requests: int
    """Requests of idle workers for a message."""
    runs_in_progress: int


class OcrHealth(TypedDict):
    """The engine that reads text, and its default languages."""

    engine: str
    languages: str
    fallback: str


class AiHealth(TypedDict):
    """The AI provider in use; the offline one has no model."""

    provider: str
    model: str | None
    fallback: list[str]


class ApiHealth(DetailedHealth):
    """Whether each dependency is available, and what processes images.

    `workers` is null while NATS is unavailable, `ocr` if the server has disabled it.
    """

    workers: dict[str, WorkersHealth] | None
    ocr: OcrHealth | None
    ai: AiHealth


def api_health(health: DetailedHealth, settings: Settings, lags: Iterable[QueueLag] | None) -> ApiHealth:
    """Return the body of the API's `/health/detailed`."""
    first, *others = provider_chain(settings)
    return {
        **health,
        "workers": None if lags is None else _workers(list(lags), kinds=server_workers(settings.stages_off)),
        "ocr": None if Stage.OCR in settings.stages_off else _ocr(settings),
        "ai": {"provider": first.provider, "model": first.model or None, "fallback": [one.provider for one in others]},
    }


def _workers(lags: list[QueueLag], *, kinds: tuple[str, ...]) -> dict[str, WorkersHealth]:
    return {
        kind: {
            "stages": list(WORKER_STAGES[kind]),
            "open_requests": sum(lag.polls for lag in lags if lag.stage in WORKER_STAGES[kind]),
            "runs_in_progress": sum(lag.delivered for lag in lags if lag.stage in WORKER_STAGES[kind]),
        }
        for kind in kinds
    }


def _ocr(settings: Settings) -> OcrHealth:
    return {
        "engine": settings.ocr_engine,
        "languages": settings.ocr_languages,
        "fallback": settings.ocr_fallback,
    }


def root_response() -> RootResponse:
    """Return the name and version of the service."""
    return {"name": "imago", "version": __version__, "docs": "/docs", "openapi": "/openapi.json"}
