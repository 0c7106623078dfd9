"""Health checks, metrics and the root."""

import asyncio

from aiohttp import web

from imago.api.auth.permissions import PUBLIC, allow
from imago.api.health.responses import ApiHealth, HealthResponse, RootResponse, api_health, root_response
from imago.api.http.json import json_response
from imago.api.http.services import HEALTH, SETTINGS, HealthServices
from imago.api.openapi.decorators import TEXT, documented
from imago.nats.connection import NatsUnavailable
from imago.nats.lag import QueueLag
from imago.telemetry.health import CHECK_TIMEOUT_SECONDS, run_checks

routes = web.RouteTableDef()

# These reveal internals; with METRICS_PORT they are served only there.
private_routes = web.RouteTableDef()

DRAINING: web.AppKey[asyncio.Event] = web.AppKey("draining", asyncio.Event)


@routes.get("/", allow_head=False)
@documented(
    tag="service",
    summary="Get the name and version",
    responses={200: (RootResponse, "The name and version of the service.")},
)
@allow(PUBLIC)
async def root(_request: web.Request) -> web.Response:
    """Return the name and version of the service, and the paths of its documentation."""
    return json_response(root_response())


@routes.get("/health", allow_head=False)
@documented(tag="service", summary="Liveness", responses={200: (HealthResponse, "The process is alive.")})
@allow(PUBLIC)
async def health(_request: web.Request) -> web.Response:
    """Return 200 while the process can answer requests."""
    return json_response(HealthResponse(status="ok"))


@routes.get("/health/ready", allow_head=False)
@documented(
    tag="service",
    summary="Readiness",
    responses={
        200: (HealthResponse, "The process accepts requests."),
        503: (HealthResponse, "The process is shutting down."),
    },
)
@allow(PUBLIC)
async def ready(request: web.Request) -> web.Response:
    """Return whether the process accepts requests.

    NATS and the database are not checked: during an outage Imago itself answers 503 with Retry-After, which is better
    than an ingress without backends.
    """
    draining = request.app[DRAINING].is_set()
    return json_response(HealthResponse(status="draining" if draining else "ok"), status=503 if draining else 200)


@private_routes.get("/health/detailed", allow_head=False)
@documented(
    tag="service",
    summary="Detailed health",
    responses={
        200: (ApiHealth, "All dependencies are available."),
        503: (ApiHealth, "A dependency is unavailable."),
    },
)
@allow(PUBLIC)
async def detailed(request: web.Request) -> web.Response:
    """Check whether each dependency is available; name the workers, the OCR engine and the AI provider."""
    services = request.app[HEALTH]
    (ok, health), lags = await asyncio.gather(run_checks(services.checks), _lags(services))
    return json_response(api_health(health, request.app[SETTINGS], lags), status=200 if ok else 503)


async def _lags(services: HealthServices) -> list[QueueLag] | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await services.queues()
    except (NatsUnavailable, TimeoutError):
        return None


@private_routes.get("/metrics", allow_head=False)
@documented(
    tag="service",
    summary="Metrics",
    responses={200: (TEXT, "The metrics.")},
    media_type="text/plain",
)
@allow(PUBLIC)
async def metrics(request: web.Request) -> web.Response:
    """Return the metrics in Prometheus' text format, or as OpenMetrics with exemplars if the client accepts that."""
    body, content_type = await asyncio.to_thread(request.app[HEALTH].exposition, request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})
