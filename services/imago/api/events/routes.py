"""GET /images/events: the events of a client's images, as Server-Sent Events."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable

from aiohttp import web

from imago.api.auth.authentication import still_allowed
from imago.api.auth.permissions import allow_clients, client_of
from imago.api.events.hub import ListenerMessage
from imago.api.http.request_context import REQUEST_ID
from imago.api.http.services import EVENTS, SETTINGS
from imago.api.openapi.decorators import TEXT, documented
from imago.core.clients.scopes import Scope
from imago.core.errors import RateLimited, Unavailable
from imago.nats.connection import NatsUnavailable

routes = web.RouteTableDef()

# A stream outlives the authentication of its request: a revoked key ends it within this plus the key cache's age.
RECHECK_SECONDS = 2.0

# A listener that reads nothing for this long has most likely disconnected.
WRITE_SECONDS = 20.0

# How long browsers wait before they reconnect.
_RETRY_MS = 2000

_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that was received; the stream resumes after it",
    "schema": {"type": "string", "maxLength": 100, "pattern": "^[!-~]*$"},
}


@routes.get("/images/events", allow_head=False)
@documented(
    tag="images",
    summary="Stream events",
    responses={200: (TEXT, "A stream of events that stays open.")},
    media_type="text/event-stream",
    errors=(RateLimited, Unavailable),
    parameters=(_LAST_EVENT_ID,),
)
@allow_clients(Scope.IMAGES_READ)
async def stream_events(request: web.Request) -> web.StreamResponse:
    """Stream `image.created`, `stage.done`, `stage.retrying`, `stage.dead`, `image.done` and `image.deleted`.

    Every event is delivered at least once, and repetitions have the same `event_id`. Events of different images come in
    no particular order. With Last-Event-ID a stream resumes after that event for up to 24 hours; if the position is
    unknown, `event: reset` comes first, and the client should read its images again.
    """
    hub, client = request.app.get(EVENTS), client_of(request)
    if hub is None:
        raise Unavailable("This server has no event stream.")
    heartbeat = request.app[SETTINGS].events_heartbeat
    events = hub.listen(
        client, after=request.headers.get("Last-Event-ID") or None, pause=min(heartbeat, RECHECK_SECONDS)
    )
    async with contextlib.aclosing(events) as stream:
        # Before the headers are sent, so that an outage is a 503 and not a stream that ends immediately.
        await anext(stream)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store, no-transform",
                # nginx, and ingresses built on it, would hold events back until a buffer is full.
                "X-Accel-Buffering": "no",
                "X-Request-ID": request[REQUEST_ID],
            }
        )
        await response.prepare(request)
        # After the headers no error can be sent: the stream ends, and the client resumes it with Last-Event-ID.
        with contextlib.suppress(ConnectionError, NatsUnavailable):
            await _relay(request, response, stream, heartbeat)
            await _bounded(request, response.write_eof())
    return response


async def _relay(
    request: web.Request,
    response: web.StreamResponse,
    stream: AsyncGenerator[ListenerMessage | None],
    heartbeat: float,
) -> None:
    await _bounded(request, response.write(f"retry: {_RETRY_MS}\n\n".encode()))
    wrote = checked = time.monotonic()
    async for message in stream:
        now = time.monotonic()
        if now - checked >= RECHECK_SECONDS:
            if not await still_allowed(request):
                return
            checked = now
        if request.transport is None or request.transport.is_closing():
            return
        if message is not None:
            await _bounded(request, response.write(_encoded(message)))
            wrote = now
        elif now - wrote >= heartbeat:
            await _bounded(request, response.write(b": heartbeat\n\n"))
            wrote = now


async def _bounded(request: web.Request, writing: Awaitable[None]) -> None:
    """Await a write; abort the connection if the listener reads nothing for `WRITE_SECONDS`."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await writing
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the listener reads nothing") from None


def _encoded(message: ListenerMessage) -> bytes:
    if message.event is None:
        return f"id: {message.id}\nevent: reset\ndata: {{}}\n\n".encode()
    return f"id: {message.id}\nevent: {message.event.name}\ndata: ".encode() + message.event.data + b"\n\n"
