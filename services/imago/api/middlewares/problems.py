"""Turns whatever goes wrong into `application/problem+json` (RFC 9457)."""

import math
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from aiohttp import web

from imago.api.auth.permissions import Handler
from imago.core.errors import Problem, Unauthenticated
from imago.db.engine import DatabaseUnavailable
from imago.nats.connection import NatsUnavailable
from imago.objects.store import StorageUnavailable

log = structlog.get_logger(__name__)

# How long a client should wait before it tries again after an outage of ours.
RETRY_AFTER_SECONDS = 5

_CODES = {
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "request-too-large",
    415: "unsupported-media-type",
    500: "internal-error",
}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer problems, refusals of aiohttp's own, outages and bugs alike as problem documents."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _http_error(error)
    except (DatabaseUnavailable, StorageUnavailable, NatsUnavailable) as error:
        log.warning("a part is away", part=type(error).__name__, reason=str(error))
        return unavailable_response()
    except ConnectionResetError:
        # The client is gone; whatever is answered, nobody reads it.
        return _document(400, "connection-lost", "Connection lost", "The connection broke off.")
    except Exception:
        log.exception("a request failed unexpectedly", method=request.method, path=request.path)
        return http_problem(500)


def http_problem(status: int) -> web.Response:
    """Return the document of an error of HTTP itself: nothing of the request stands in it."""
    title = HTTPStatus(status).phrase
    return _document(status, _CODES.get(status, "bad-request"), title, f"{title}.")


def problem_response(problem: Problem) -> web.Response:
    """Return the document of a problem."""
    response = _document(problem.status, problem.code, problem.title, problem.detail, problem.extra)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    if isinstance(problem, Unauthenticated):
        response.headers["WWW-Authenticate"] = 'ApiKey header="X-API-Key"'
    return response


def unavailable_response() -> web.Response:
    """Return the answer to a request that a part of ours is needed for and away."""
    response = _document(503, "unavailable", "Temporarily unavailable", "A part of the service is away; try again.")
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _http_error(error: web.HTTPException) -> web.Response:
    response = http_problem(error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _document(status: int, code: str, title: str, detail: str, extra: dict[str, Any] | None = None) -> web.Response:
    body = {"type": f"urn:imago:problem:{code}", "title": title, "status": status, "code": code, "detail": detail}
    return web.Response(
        # The errors of a list's items come under their numbers.
        body=orjson.dumps({**(extra or {}), **body}, option=orjson.OPT_NON_STR_KEYS),
        status=status,
        content_type="application/problem+json",
    )
