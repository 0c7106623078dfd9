"""GET /images/events: what happens to a client's images, as Server-Sent Events."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable

from aiohttp import web

from imago.api.auth.authentication import still_allowed
from imago.api.auth.permissions import client_of, needs
from imago.api.events.hub import Sent
from imago.api.openapi.decorators import documented
from imago.api.request_context import REQUEST_ID
from imago.api.services import EVENTS, SETTINGS
from imago.core.clients.scopes import Scope
from imago.core.errors import RateLimited, Unavailable
from imago.nats.connection import NatsUnavailable

routes = web.RouteTableDef()

# A stream outlives the request that opened it: a key that is revoked ends it within this and the key cache's age.
RECHECK_SECONDS = 2.0

# A listener that takes nothing for this long is gone, or as good as gone.
WRITE_SECONDS = 20.0

# How long browsers wait before they come back after a broken stream.
_RETRY_MS = 2000

_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "type": "string",
    "maxLength": 100,
    "pattern": "^[!-~]*$",
    "description": "The id of the last event that was seen: the stream goes on behind it",
}


@routes.get("/images/events", allow_head=False)
@documented(
    tag="images",
    summary="Listen to events",
    answers={200: (None, "A stream of events that doesn't end by itself.")},
    problems=(RateLimited, Unavailable),
    parameters=(_LAST_EVENT_ID,),
)
@needs(Scope.IMAGES_READ)
async def events(request: web.Request) -> web.StreamResponse:
    """Streams `image.created`, `stage.done`, `stage.retrying`, `stage.dead`, `image.done` and `image.deleted`.

    Every event comes at least once, those of different images in no certain order; `event_id` tells repetitions. With
    Last-Event-ID the stream goes on where another one broke off, for up to 24 hours; where that place is unknown,
    `event: reset` comes first, and a client should read its images anew.
    """
    hub, client = request.app.get(EVENTS), client_of(request)
    if hub is None:
        raise Unavailable("This process serves no events.")
    heartbeat = request.app[SETTINGS].events_heartbeat
    heard = hub.listen(
        client, after=request.headers.get("Last-Event-ID") or None, pause=min(heartbeat, RECHECK_SECONDS)
    )
    async with contextlib.aclosing(heard) as stream:
        # Before the headers go out, so that what is away is a 503 and not a stream that ends at once.
        await anext(stream)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store, no-transform",
                # nginx, and with it many an ingress, would keep events back until a buffer is full.
                "X-Accel-Buffering": "no",
                "X-Request-ID": request[REQUEST_ID],
            }
        )
        await response.prepare(request)
        # Once the headers are out there is no other answer: whatever is wrong ends the stream, and its client comes
        # back with the id of the last event it got.
        with contextlib.suppress(ConnectionError, NatsUnavailable):
            await _relay(request, response, stream, heartbeat)
            await _bounded(request, response.write_eof())
    return response


async def _relay(
    request: web.Request,
    response: web.StreamResponse,
    stream: AsyncGenerator[Sent | None],
    heartbeat: float,
) -> None:
    await _bounded(request, response.write(f"retry: {_RETRY_MS}\n\n".encode()))
    wrote = checked = time.monotonic()
    async for sent in stream:
        now = time.monotonic()
        if now - checked >= RECHECK_SECONDS:
            if not await still_allowed(request):
                return
            checked = now
        if request.transport is None or request.transport.is_closing():
            return
        if sent is not None:
            await _bounded(request, response.write(_encoded(sent)))
            wrote = now
        elif now - wrote >= heartbeat:
            await _bounded(request, response.write(b": heartbeat\n\n"))
            wrote = now


async def _bounded(request: web.Request, writing: Awaitable[None]) -> None:
    """Wait for a write; break the connection off where its other side takes nothing."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await writing
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the listener takes nothing") from None


def _encoded(sent: Sent) -> bytes:
    if sent.event is None:
        return f"id: {sent.id}\nevent: reset\ndata: {{}}\n\n".encode()
    return f"id: {sent.id}\nevent: {sent.event.name}\ndata: ".encode() + sent.event.data + b"\n\n"
