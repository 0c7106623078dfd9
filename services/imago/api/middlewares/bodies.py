"""JSON bodies: received in limited time and memory before they are parsed."""

import asyncio

from aiohttp import web

from imago.api.auth.permissions import Handler
from imago.api.http.services import SETTINGS
from imago.api.openapi.decorators import json_is_read
from imago.api.server.memory import REQUEST_BYTES, memory_now
from imago.core.errors import RequestTimeout, RequestTooLarge

# Of JSON bodies; the body of an upload is streamed and has its own limits.
MAX_JSON_BYTES = 1024 * 1024

# While a body grows, its buffer is copied to larger ones; measured, 1 MB of it takes 1.7 MB.
_GROWTH = 2

_RETRY_SECONDS = 1


@web.middleware
async def json_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Receive the JSON body of a request whose handler reads one; it stays in memory until the request ends."""
    if not request.can_read_body or not json_is_read(request.match_info.handler):
        return await handler(request)
    size = request.content_length
    if size is not None and size > MAX_JSON_BYTES:
        raise RequestTooLarge("Request Entity Too Large.", extra={"max_body_bytes": MAX_JSON_BYTES})
    needed = _GROWTH * (MAX_JSON_BYTES if size is None else size) + REQUEST_BYTES
    with memory_now(request, needed, of="body"):
        await _receive(request, request.app[SETTINGS].json_body_timeout)
        return await handler(request)


async def _receive(request: web.Request, seconds: float) -> None:
    """Receive the whole body, which the request keeps; raise RequestTimeout."""
    try:
        async with asyncio.timeout(seconds):
            await request.read()
    except TimeoutError:
        raise RequestTimeout(
            f"The body was not received within {seconds:g} s.",
            extra={"limit": "json-body-timeout", "seconds": seconds},
            retry_after=_RETRY_SECONDS,
        ) from None
