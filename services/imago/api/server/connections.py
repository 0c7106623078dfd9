"""The connections of a process: how many there are, and how long they may keep it waiting.

aiohttp has a timeout only for idle connections, which must be as long as that of load balancers (`KEEPALIVE_TIMEOUT`).
It has none for a header that never ends, for a response that nobody reads, and no limit on their number.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from itertools import islice
from typing import ClassVar, cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from imago.api.auth.permissions import Handler
from imago.api.http.errors import http_problem, problem_response
from imago.api.middlewares.headers import set_headers
from imago.api.server.pace import Pace, PaceLimits
from imago.core.errors import Overloaded
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

# How often responses that wait for their reader are looked at.
SWEEP_SECONDS = 2.0

# Connections beyond the limit that may be answered at the same time, and for how long: a client that still sends its
# request would lose the response if its connection were closed immediately.
_MAX_REFUSED = 64
_REFUSED_SECONDS = 1.0
_RETRY_SECONDS = 5

# A connection that is younger than this may still be sending its header.
_SILENT_SECONDS = 1.0

# How many connections are looked at for one that is idle, when a new one is over the limit.
_IDLE_SEARCH = 64

_LOG_SECONDS = 10.0

# The offset of `tcpi_bytes_acked` in `struct tcp_info` (Linux 4.1).
_BYTES_ACKED = struct.Struct("120xQ")


class Connection(web.RequestHandler):
    """A connection that answers invalid HTTP with a problem document, and that its guard knows.

    aiohttp's own response and log line repeat the invalid bytes, and a header may contain a key.
    """

    __slots__ = ()
    guard: ClassVar["ConnectionGuard"]

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a request, after the last response was sent."""
        return self._current_request is None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self.guard.forget(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that never reached the application, or an error that its middlewares could not handle."""
        if status >= 500:
            log.error("request.failed", message="an error reached the server", exc_info=exc)
        else:
            log.info("request.invalid-http", status=status, error=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response was already sent")
        response = http_problem(status)
        set_headers(response)
        response.force_close()
        return response


class ConnectionGuard:
    """Knows the open connections of a server; closes those that keep it waiting, and refuses too many."""

    def __init__(self, *, limit: int, header_seconds: float, writing: PaceLimits) -> None:
        self._limit = limit
        self._header_seconds = header_seconds
        self._writing = writing
        self._open: dict[web.RequestHandler, Pace | None] = {}
        # Those that have not sent a whole header, the oldest first, with the time at which they were accepted.
        self._silent: dict[web.RequestHandler, float] = {}
        # Those whose last request was handled, the longest ago first. Some of them are still writing a response.
        self._handled: dict[Connection, None] = {}
        self._refused = 0
        self._logged = -_LOG_SECONDS
        self._class = type("GuardedConnection", (Connection,), {"__slots__": (), "guard": self})

    def accept(self, make: Callable[[], web.RequestHandler]) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if len(self._open) >= self._limit and not self._make_room():
            return self._refusal()
        connection = make()
        # The server has no parameter for the class of its connections.
        connection.__class__ = self._class
        self._open[connection] = None
        self._silent[connection] = asyncio.get_running_loop().time()
        return connection

    def forget(self, connection: web.RequestHandler) -> None:
        """Remove a connection that is closed."""
        self._open.pop(connection, None)
        self._silent.pop(connection, None)
        self._handled.pop(cast(Connection, connection), None)

    @property
    def middleware(self) -> Middleware:
        """The middleware that a request reaches when its header is complete."""

        @web.middleware
        async def header_received(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = cast(Connection, request.protocol)
            self._silent.pop(connection, None)
            self._handled.pop(connection, None)
            try:
                return await handler(request)
            finally:
                if connection in self._open:
                    self._handled[connection] = None

        return header_received

    async def run(self) -> None:
        """Close connections that send no header in time or are too slow to read a response, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Look once at all connections that may have to be closed."""
        now = asyncio.get_running_loop().time()
        self._expire_silent(now)
        for connection, pace in list(self._open.items()):
            transport = connection.transport
            if transport is None or not transport.get_write_buffer_size():
                if pace is not None:
                    self._open[connection] = None
            elif pace is None:
                self._open[connection] = Pace(self._writing, now=now, moved=_acknowledged(transport))
            elif pace.too_slow(now=now, moved=_acknowledged(transport)):
                metrics.CONNECTIONS_CLOSED.labels("slow-reader").inc()
                log.info("connection.slow-reader")
                _abort(transport)

    def _expire_silent(self, now: float) -> None:
        for connection, accepted in list(self._silent.items()):
            if now - accepted < self._header_seconds:
                break
            self._drop(connection, "no-header")

    def _make_room(self) -> bool:
        """Close a connection without a request, if there is one: the oldest silent one, or an idle one."""
        self._report()
        oldest = next(iter(self._silent.items()), None)
        if oldest is not None and asyncio.get_running_loop().time() - oldest[1] >= _SILENT_SECONDS:
            self._drop(oldest[0], "no-header")
            return True
        idle = next((each for each in islice(self._handled, _IDLE_SEARCH) if each.is_idle), None)
        if idle is not None:
            self._drop(idle, "idle")
        return idle is not None

    def _drop(self, connection: web.RequestHandler, reason: str) -> None:
        metrics.CONNECTIONS_CLOSED.labels(reason).inc()
        # Closed only after this step of the loop.
        self.forget(connection)
        connection.force_close()

    def _refusal(self) -> asyncio.Protocol:
        metrics.CONNECTIONS_REFUSED.inc()
        answered = self._refused < _MAX_REFUSED
        if answered:
            self._refused += 1
            asyncio.get_running_loop().call_later(_REFUSED_SECONDS, self._refusal_ended)
        return _Refusal(self._limit if answered else None)

    def _refusal_ended(self) -> None:
        self._refused -= 1

    def _report(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            log.warning(
                "connections.limit-reached",
                message="too many connections: silent and idle ones are closed, and others are refused"
                " (MAX_CONNECTIONS, limit of open files)",
                limit=self._limit,
                silent=len(self._silent),
            )


class _Refusal(asyncio.Protocol):
    """Answers a connection beyond the limit with 503, whatever it sends; without a limit, closes it."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not a stream")
        if self._limit is None:
            transport.abort()
            return
        transport.write(_overloaded(self._limit))
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(_REFUSED_SECONDS, transport.abort)


def _overloaded(limit: int) -> bytes:
    response = problem_response(
        Overloaded(
            "This server has too many open connections; try again.",
            extra={"limit": "max-connections", "connections": limit},
            retry_after=_RETRY_SECONDS,
        )
    )
    set_headers(response)
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _acknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes the client's kernel has confirmed.

    Where the kernel doesn't say, return a number that changes when it takes more of the response.
    """
    info = b""
    with contextlib.suppress(OSError, AttributeError):
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    if len(info) < _BYTES_ACKED.size:
        return -transport.get_write_buffer_size()
    acknowledged: int = _BYTES_ACKED.unpack_from(info)[0]
    return acknowledged


def _abort(transport: asyncio.Transport) -> None:
    # With a reset: otherwise the kernel would keep what it has of the response for minutes.
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
