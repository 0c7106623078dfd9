"""Serving the applications, and a graceful end: readiness fails, open requests finish, then the port closes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from imago.api.app import build_app, build_private_app
from imago.api.auth.permissions import Handler
from imago.api.errors import http_problem
from imago.api.health.routes import DRAINING
from imago.api.middlewares.headers import set_headers
from imago.api.services import Services
from imago.startup import bind

log = structlog.get_logger(__name__)

BACKLOG = 1024

# After an early error response the rest of a body is read for this long, so that the client can read the response.
LINGERING_SECONDS = 2.0

# aiohttp pauses a connection at twice this, so an upload may buffer 0.5 MiB. With the library's default of 64 KiB most
# chunks of an upload pause it, which costs a tenth of the CPU of an upload of 900 KB.
READ_BUFFER = 256 * 1024


class Connection(web.RequestHandler):
    """A connection that answers invalid HTTP with a problem document.

    aiohttp's own response and log line repeat the invalid bytes, and a header may contain a key.
    """

    __slots__ = ()

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


class HeaderDeadline:
    """Closes connections that have not sent a whole request header in time.

    aiohttp has a timeout only for idle connections, which must be as long as that of load balancers
    (`KEEPALIVE_TIMEOUT`); it also applies to the headers of a connection's later requests.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: set[web.RequestHandler] = set()

    def start(self, connection: web.RequestHandler) -> None:
        """Start the deadline of a new connection."""
        self._waiting.add(connection)
        asyncio.get_running_loop().call_later(self._seconds, self._expire, connection)

    @property
    def middleware(self) -> Middleware:
        """The middleware that a request reaches when its header is complete."""

        @web.middleware
        async def header_received(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._waiting.discard(request.protocol)
            return await handler(request)

        return header_received

    def _expire(self, connection: web.RequestHandler) -> None:
        if connection in self._waiting:
            self._waiting.discard(connection)
            connection.force_close()


@asynccontextmanager
async def serving(services: Services, listener: socket.socket) -> AsyncIterator[Sequence[web.Application]]:
    """Serve the API, and the private port if one is set, until the block ends; then drain."""
    settings = services.settings
    apps = [build_app(services)]
    listeners = [listener]
    if settings.metrics_port is not None:
        apps.append(build_private_app(services))
        listeners.append(bind(settings.host, settings.metrics_port))
    async with AsyncExitStack() as stack:
        for app, sock in zip(apps, listeners, strict=True):
            deadline = HeaderDeadline(settings.header_timeout)
            app.middlewares.insert(0, deadline.middleware)
            runner = web.AppRunner(
                app,
                keepalive_timeout=settings.keepalive_timeout,
                shutdown_timeout=settings.shutdown_timeout,
                lingering_time=LINGERING_SECONDS,
                access_log=None,
                read_bufsize=READ_BUFFER,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback((await _listen(runner, sock, deadline)).close)
        try:
            yield apps
        finally:
            for app in apps:
                app[DRAINING].set()
            # Load balancers see that the process is not ready before the port closes.
            await asyncio.sleep(settings.drain_delay)


async def _listen(runner: web.AppRunner, sock: socket.socket, deadline: HeaderDeadline) -> asyncio.Server:
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")

    def accept() -> web.RequestHandler:
        connection = server()
        # The server has no parameter for the class of its connections.
        connection.__class__ = Connection
        deadline.start(connection)
        return connection

    return await asyncio.get_running_loop().create_server(accept, sock=sock, backlog=BACKLOG)
