"""The HTTP status of each error, and the middleware that answers with `application/problem+json` (RFC 9457)."""

import math
from collections.abc import Mapping
from http import HTTPStatus

import orjson
import structlog
from aiohttp import web
from typing_extensions import TypedDict

from imago.api.auth.permissions import Handler
from imago.core import errors
from imago.core.errors import Problem
from imago.db.engine import DatabaseUnavailable
from imago.nats.connection import NatsUnavailable
from imago.objects.store import StorageUnavailable

log = structlog.get_logger(__name__)

STATUSES: Mapping[type[Problem], HTTPStatus] = {
    errors.Problem: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.MissingScope: HTTPStatus.FORBIDDEN,
    errors.KeyNeeded: HTTPStatus.FORBIDDEN,
    errors.NotATenant: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.NoThumbnail: HTTPStatus.NOT_FOUND,
    errors.RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    errors.UploadExpired: HTTPStatus.REQUEST_TIMEOUT,
    errors.NotReady: HTTPStatus.CONFLICT,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.StageDisabled: HTTPStatus.CONFLICT,
    errors.IdempotencyInFlight: HTTPStatus.CONFLICT,
    errors.ClientOwned: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyPixels: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Unprocessable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NothingSelected: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.IdempotencyMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnreadableImage: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.EmptyFile: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UrlRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.HostNotFound: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.FetchTooLarge: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotAPage: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NoText: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManyUploads: HTTPStatus.TOO_MANY_REQUESTS,
    errors.AiBudgetUsedUp: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooMuchInFlight: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.FetchFailed: HTTPStatus.BAD_GATEWAY,
    errors.AiFailed: HTTPStatus.BAD_GATEWAY,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.AiUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.FetchTimeout: HTTPStatus.GATEWAY_TIMEOUT,
}

# The codes of errors that aiohttp itself raises; any other is `bad-request`.
_HTTP_CODES: Mapping[int, str] = {
    403: "forbidden",
    404: errors.NotFound.code,
    405: "method-not-allowed",
    413: errors.RequestTooLarge.code,
    415: errors.UnsupportedMediaType.code,
    500: errors.InternalError.code,
}

# How long a client should wait before it repeats a request that an outage failed.
_OUTAGE_RETRY_SECONDS = 5


class ProblemResponse(TypedDict):
    """An error (RFC 9457). `code` is stable; some codes have additional members."""

    type: str
    title: str
    status: int
    code: str
    detail: str


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals, errors of aiohttp, outages and bugs into problem documents."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _http_error(error)
    except (DatabaseUnavailable, StorageUnavailable, NatsUnavailable) as error:
        log.warning("dependency.unavailable", error=type(error).__name__, reason=str(error))
        return problem_response(
            errors.Unavailable(
                "A service that Imago depends on is unavailable; try again.", retry_after=_OUTAGE_RETRY_SECONDS
            )
        )
    except ConnectionResetError:
        # The client has disconnected and reads no response.
        return _document("connection-lost", HTTPStatus.BAD_REQUEST, "Connection lost", "The connection was lost.")
    except Exception:
        log.exception("request.failed", method=request.method, path=request.path)
        return http_problem(500)


def http_problem(status: int) -> web.Response:
    """Return the problem document of an HTTP error; it repeats nothing of the request."""
    http = HTTPStatus(status)
    return _document(_HTTP_CODES.get(status, Problem.code), http, http.phrase, f"{http.phrase}.")


def problem_response(problem: Problem) -> web.Response:
    """Return the problem document of an error, with its headers."""
    response = _document(problem.code, STATUSES[type(problem)], problem.title, problem.detail, problem.extra)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    if isinstance(problem, errors.Unauthenticated):
        response.headers["WWW-Authenticate"] = 'ApiKey header="X-API-Key"'
    return response


def _http_error(error: web.HTTPException) -> web.Response:
    response = http_problem(error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _document(
    code: str, status: HTTPStatus, title: str, detail: str, extra: Mapping[str, object] | None = None
) -> web.Response:
    body: ProblemResponse = {
        "type": f"urn:imago:problem:{code}",
        "title": title,
        "status": status.value,
        "code": code,
        "detail": detail,
    }
    return web.Response(
        # Validation errors of a list's items are keyed by the item's number.
        body=orjson.dumps({**(extra or {}), **body}, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z),
        status=status,
        content_type="application/problem+json",
    )
