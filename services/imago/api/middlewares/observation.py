"""Request ids, metrics and the access log."""

import re
import secrets
import time
from functools import lru_cache

import structlog
from aiohttp import web
from prometheus_client import Counter, Histogram

from imago.api.auth.permissions import Handler
from imago.api.http.request_context import IMAGE, PRINCIPAL, REQUEST_ID
from imago.telemetry import metrics

log = structlog.get_logger("imago.api.request")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

# Probes and scrapes arrive every few seconds and are not worth a line each.
_SILENT = frozenset({"/health", "/health/ready", "/metrics"})


@web.middleware
async def observation(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Assign a request its id, measure it, and log it."""
    sent = request.headers.get("X-Request-ID", "")
    request_id = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)
    request[REQUEST_ID] = request_id
    route = _template(request)
    started = time.monotonic()
    metrics.HTTP_IN_FLIGHT.inc()
    status = 499
    try:
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = await handler(request)
            status = response.status
            if not response.prepared:
                response.headers["X-Request-ID"] = request_id
            return response
    finally:
        seconds = time.monotonic() - started
        metrics.HTTP_IN_FLIGHT.dec()
        count, duration = _series(request.method, route, status)
        count.inc()
        duration.observe(seconds, exemplar=metrics.exemplar())
        if route not in _SILENT:
            principal = request.get(PRINCIPAL)
            image = {"image": request[IMAGE]} if IMAGE in request else {}
            log.info(
                "request.completed",
                request_id=request_id,
                method=request.method,
                route=route,
                status=status,
                seconds=round(seconds, 4),
                client=str(principal.client.uuid) if principal and principal.client else None,
                **image,
            )


@lru_cache(maxsize=4096)
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    # Looking up a series by its labels takes as long as incrementing it.
    return metrics.HTTP_REQUESTS.labels(method, route, status), metrics.HTTP_SECONDS.labels(method, route)


def _template(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
