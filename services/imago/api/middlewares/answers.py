"""Responses that wait for their reader: each client has a share of the memory that they use.

The event loop copies what the kernel doesn't take immediately, and a client may read slowly or not at all. So a large
body is charged to its client, and written in pieces.
"""

import contextlib

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from imago.api.auth.permissions import Handler
from imago.api.server.memory import memory_now
from imago.core.errors import Problem

# The kernel takes a smaller one.
_LARGE = 32 * 1024

_PIECE = 64 * 1024

_HELD: web.RequestKey[contextlib.ExitStack] = web.RequestKey("memory of the response", contextlib.ExitStack)


@web.middleware
async def written(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write large responses, and free their memory afterwards; the outermost middleware."""
    response = await handler(request)
    held = request.get(_HELD)
    if held is not None:
        # The server cuts the connection of a client that reads nothing; the response stays incomplete.
        with held, contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write_eof()
    return response


@web.middleware
async def charged(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Charge a large response to its client before it is sent; a refusal replaces it."""
    response = await handler(request)
    if not isinstance(response, web.Response) or response.prepared:
        return response
    if isinstance(response.body, bytes) and len(response.body) > _LARGE:
        try:
            _charge(request, response, response.body)
        except Problem:
            # The traceback keeps the response until the garbage collector runs.
            response.body = None
            raise
    return response


def _charge(request: web.Request, response: web.Response, body: bytes) -> None:
    held = contextlib.ExitStack()
    size = len(body)
    response.body = _Pieces(body, content_type=response.content_type)
    del body
    held.enter_context(memory_now(request, size, of="response"))
    request[_HELD] = held


class _Pieces(BytesPayload):
    """A body that is written in pieces, each after the client has read most of the one before."""

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body."""
        with memoryview(self._value) as view:
            for start in range(0, len(view), _PIECE):
                await writer.write(view[start : start + _PIECE])
