"""Serving the applications, and a graceful end: readiness fails, open requests finish, then the port closes."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from aiohttp import web

from imago.api.health.routes import DRAINING
from imago.api.http.services import Services
from imago.api.server.app import build_app, build_private_app
from imago.api.server.connections import ConnectionGuard
from imago.api.server.pace import PaceLimits
from imago.runtime.cancellation import end_tasks
from imago.runtime.startup import bind
from imago.settings import Settings

BACKLOG = 1024

# Files that a process has open beside its connections: of the database, NATS, storage and child processes.
RESERVED_FILES = 256

# After an early error response the rest of a body is read for this long, so that the client can read the response.
LINGERING_SECONDS = 2.0

# aiohttp pauses a connection at twice this, so an upload may buffer 0.5 MiB. With the library's default of 64 KiB most
# chunks of an upload pause it, which costs a tenth of the CPU of an upload of 900 KB.
READ_BUFFER = 256 * 1024


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
            guard = _guard(settings)
            app.middlewares.insert(0, guard.middleware)
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
            stack.callback((await _listen(runner, sock, guard)).close)
            stack.push_async_callback(end_tasks, asyncio.create_task(guard.run(), name="connection-guard"))
        try:
            yield apps
        finally:
            for app in apps:
                app[DRAINING].set()
            # Load balancers see that the process is not ready before the port closes.
            await asyncio.sleep(settings.drain_delay)


def _guard(settings: Settings) -> ConnectionGuard:
    # A download needs a file beside its connection, and the process needs some for itself.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ConnectionGuard(
        limit=max(1, min(settings.max_connections, (files - RESERVED_FILES) // 2)),
        header_seconds=settings.header_timeout,
        writing=PaceLimits(settings.response_idle_timeout, settings.response_min_rate),
    )


async def _listen(runner: web.AppRunner, sock: socket.socket, guard: ConnectionGuard) -> asyncio.Server:
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    accept = partial(guard.accept, server)
    return await asyncio.get_running_loop().create_server(accept, sock=sock, backlog=BACKLOG)
