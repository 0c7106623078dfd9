"""Serving an application, and ending well: readiness says no, requests under way are answered, then the port closes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from aiohttp import web

from imago.api.app import build_app, build_private_app
from imago.api.health.routes import DRAINING
from imago.api.middlewares.headers import set_headers
from imago.api.middlewares.problems import http_problem
from imago.api.services import Services
from imago.startup import bind

log = structlog.get_logger(__name__)

BACKLOG = 1024

# After a refusal the rest of a body is read for so long, so that its sender gets to see the answer.
LINGERING_SECONDS = 2.0

# A sender is paused at twice this, so an upload may hold 0.5 MiB. At the library's 64 KiB most of an upload's chunks
# pause it, which costs a tenth of the CPU of one of 900 KB.
READ_BUFFER = 256 * 1024


class Protocol(web.RequestHandler):
    """One connection; what is no valid HTTP is answered with a problem like every other mistake, and logged without it.

    Left to itself aiohttp writes the offending bytes into the answer and the log, and a header may hold a key.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that never reached the application, or an error that its middlewares couldn't catch."""
        if status >= 500:
            log.error("a request failed outside the application", exc_info=exc)
        else:
            log.info("a request is no valid HTTP", status=status, error=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, another one can't be sent")
        response = http_problem(status)
        set_headers(response)
        response.force_close()
        return response


@asynccontextmanager
async def serving(services: Services, listener: socket.socket) -> AsyncIterator[Sequence[web.Application]]:
    """Serve the API, and the private port where one is set, while the block lasts; then drain."""
    settings = services.settings
    apps = [build_app(services)]
    listeners = [listener]
    if settings.metrics_port is not None:
        apps.append(build_private_app(services))
        listeners.append(bind(settings.host, settings.metrics_port))
    async with AsyncExitStack() as stack:
        for app, sock in zip(apps, listeners, strict=True):
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
            stack.callback((await _listen(runner, sock, settings.header_timeout)).close)
        try:
            yield apps
        finally:
            for app in apps:
                app[DRAINING].set()
            # Those who ask for readiness see the no before the port closes.
            await asyncio.sleep(settings.drain_delay)


async def _listen(runner: web.AppRunner, sock: socket.socket, header_timeout: float) -> asyncio.Server:
    """Accept connections, and close those that have sent no whole request header in time.

    aiohttp has a deadline for idle connections alone, which is as long as balancers want it (`KEEPALIVE_TIMEOUT`); it
    also bounds the headers of a connection's later requests. Bodies have deadlines of their own in `receiving`.
    """
    loop, server = asyncio.get_running_loop(), runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")

    def accept() -> web.RequestHandler:
        # What `server()` does, with a protocol of ours.
        handler = Protocol(server, loop=loop, **server._kwargs)
        loop.call_later(header_timeout, _close_if_silent, handler)
        return handler

    return await loop.create_server(accept, sock=sock, backlog=BACKLOG)


def _close_if_silent(handler: web.RequestHandler) -> None:
    # There is no public way to ask; the test with a dripped header notices when this one goes.
    if handler._request_count == 0:
        handler.force_close()
