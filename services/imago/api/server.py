"""Serving an application, and ending well: readiness says no, requests under way are answered, then the port closes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from aiohttp import web

from imago.api.app import build_app, build_private_app
from imago.api.routes.health import DRAINING
from imago.api.services import Services

log = structlog.get_logger(__name__)

# Within this a request's line and headers must be there; bodies have deadlines of their own.
BACKLOG = 1024


class PortInUse(Exception):
    """The address can't be listened on; the text is one line for a person."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address, port 0 for a free one; raise PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortInUse(f"can't listen on {host}:{port}: {error.strerror}") from error
    return listener


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
                access_log=None,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, sock, backlog=BACKLOG).start()
        try:
            yield apps
        finally:
            for app in apps:
                app[DRAINING].set()
            # Those who ask for readiness see the no before the port closes.
            await asyncio.sleep(settings.drain_delay)
