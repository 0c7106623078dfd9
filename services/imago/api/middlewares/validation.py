"""Validation of requests by the schemas that handlers declare with aiohttp-apispec."""

import functools
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from aiohttp import web
from aiohttp_apispec import setup_aiohttp_apispec, validation_middleware
from marshmallow import Schema, ValidationError

from imago.api.auth.permissions import Handler
from imago.core.errors import Problem, Unprocessable

# A body can have many unknown members.
MAX_DETAIL = 500


def set_up_validation(app: web.Application) -> None:
    """Give an application what aiohttp-apispec's middleware needs; call it before routes are added.

    Without it the middleware fails on every handler with a schema. The library also makes a Swagger 2.0 document of
    the routes; of an application without routes that is empty, and `imago.api.openapi` makes the document that is
    served.
    """
    setup_aiohttp_apispec(app, url=None, in_place=True, error_callback=_refuse)


@web.middleware
async def validation(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Validate a request, and refuse JSON that Python can't decode instead of failing with an internal error."""
    schemas = getattr(request.match_info.handler, "__schemas__", [])
    if not request.query_string and [schema["location"] for schema in schemas] == ["querystring"]:
        defaults = _defaults(schemas[0]["schema"])
        if defaults is not None:
            request["querystring"] = dict(defaults)
            return await handler(request)
    handled = False

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal handled
        handled = True
        return await handler(request)

    try:
        response: web.StreamResponse = await validation_middleware(request, handle)
    except (ValueError, LookupError, RecursionError):
        if handled or not request.body_exists:
            raise
        # A number with 5,000 digits, an unknown charset, or brackets nested too deeply.
        raise Problem("The body is not valid JSON.") from None
    except web.HTTPBadRequest:
        if handled or not request.body_exists:
            raise
        raise Problem(f"The body is not valid JSON{await _place(request)}.") from None
    return response


@functools.cache
def _defaults(schema: Schema) -> Mapping[str, Any] | None:
    """Return the data of an empty query; None if the query has required fields.

    Validating it for each request would take a tenth of the time of reading an image.
    """
    try:
        return MappingProxyType(schema.load({}))
    except ValidationError:
        return None


async def _place(request: web.Request) -> str:
    """Return where a body stops being JSON; the message repeats nothing of it."""
    try:
        json.loads(await request.read())
    except json.JSONDecodeError as error:
        return f" at line {error.lineno}, column {error.colno}: {error.msg}"
    except (ValueError, RecursionError):
        pass
    return ""


def _refuse(error: ValidationError, *_args: object, **_kwargs: object) -> NoReturn:
    """Raise what webargs found as a problem with the errors of each field."""
    messages: Any = error.messages
    # webargs nests the fields under their location (json, querystring).
    if isinstance(messages, dict) and len(messages) == 1 and isinstance(next(iter(messages.values())), dict):
        messages = next(iter(messages.values()))
    detail = "A field is missing or has an invalid value: " + " ".join(_lines(messages))
    raise Unprocessable(detail[:MAX_DETAIL], extra={"errors": messages})


def _lines(messages: Any, path: str = "") -> Iterator[str]:
    """Yield each message with the path of its field: `scopes.0: Must be one of: …`."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from _lines(inner, f"{path}.{name}".removeprefix("."))
    elif isinstance(messages, list):
        yield from (f"{path}: {message}" for message in messages)
