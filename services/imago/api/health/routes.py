"""What the platform asks: is the process alive, ready, and how are its parts; and the root, for people."""

import asyncio

from aiohttp import web

from imago import __version__
from imago.api.answer_schemas import DetailedHealthAnswer, HealthAnswer, RootAnswer
from imago.api.answers import json_answer
from imago.api.auth.permissions import PUBLIC, access
from imago.api.openapi.decorators import documented
from imago.api.services import HEALTH
from imago.telemetry.health import run_checks

routes = web.RouteTableDef()

# What tells about the inside: on the API's port only where no port of its own is set.
private_routes = web.RouteTableDef()

DRAINING: web.AppKey[asyncio.Event] = web.AppKey("draining", asyncio.Event)


@routes.get("/", allow_head=False)
@documented(tag="service", summary="What this is", answers={200: (RootAnswer, "Name, version and where to read on.")})
@access(PUBLIC)
async def root(_request: web.Request) -> web.Response:
    """Names the service."""
    return json_answer({"name": "imago", "version": __version__, "docs": "/docs", "openapi": "/openapi.json"})


@routes.get("/health", allow_head=False)
@documented(tag="service", summary="Is the process alive", answers={200: (HealthAnswer, "It is.")})
@access(PUBLIC)
async def health(_request: web.Request) -> web.Response:
    """Answers as long as the process can answer at all."""
    return json_answer({"status": "ok"})


@routes.get("/health/ready", allow_head=False)
@documented(
    tag="service",
    summary="Does the process take requests",
    answers={200: (HealthAnswer, "It does."), 503: (HealthAnswer, "It is about to stop.")},
)
@access(PUBLIC)
async def ready(request: web.Request) -> web.Response:
    """Tells whether to send requests here.

    NATS and the database play no part: an outage of theirs is answered with 503 by us, with Retry-After, and not by an
    ingress without backends.
    """
    draining = request.app[DRAINING].is_set()
    return json_answer({"status": "draining" if draining else "ok"}, status=503 if draining else 200)


@private_routes.get("/health/detailed", allow_head=False)
@documented(
    tag="service",
    summary="How are the parts",
    answers={
        200: (DetailedHealthAnswer, "All parts answer."),
        503: (DetailedHealthAnswer, "A part does not."),
    },
)
@access(PUBLIC)
async def detailed(request: web.Request) -> web.Response:
    """Asks each part whether it answers."""
    ok, body = await run_checks(request.app[HEALTH].checks)
    return json_answer(body, status=200 if ok else 503)


@private_routes.get("/metrics", allow_head=False)
@documented(tag="service", summary="Metrics for Prometheus", answers={200: (None, "The metrics as text.")})
@access(PUBLIC)
async def metrics(request: web.Request) -> web.Response:
    """Shows the metrics as OpenMetrics, with exemplars, to those who ask for it; else in Prometheus' text format."""
    body, content_type = await asyncio.to_thread(request.app[HEALTH].exposition, request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})
