"""Validation of requests by the schemas that handlers declare with aiohttp-apispec."""

from typing import Any, NoReturn

from aiohttp import web
from aiohttp_apispec import setup_aiohttp_apispec, validation_middleware
from marshmallow import ValidationError

from imago.api.auth.permissions import Handler
from imago.core.errors import Problem, Unprocessable


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
    return response


def _refuse(error: ValidationError, *_args: object, **_kwargs: object) -> NoReturn:
    """Raise what webargs found as a problem with the errors of each field."""
    messages: Any = error.messages
    # webargs nests the fields under their location (json, querystring).
    if isinstance(messages, dict) and len(messages) == 1 and isinstance(next(iter(messages.values())), dict):
        messages = next(iter(messages.values()))
    raise Unprocessable("A field is missing or has an invalid value.", extra={"errors": messages})
