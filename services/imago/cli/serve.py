"""`imago api`."""

import socket

import structlog

from imago.api.server import serving
from imago.bootstrap.api import MissingSetting, api_services
from imago.bootstrap.parts import stop_on_signals
from imago.bootstrap.process import NO_SCHEMA, ServeError, configure
from imago.settings import Settings
from imago.startup import PortInUse, bind

log = structlog.get_logger(__name__)


async def run_api(settings: Settings, *, fd: int | None = None) -> None:
    """Serve the API until a signal comes; `fd` is a socket that is bound already."""
    configure(settings, "api")
    try:
        listener = bind(settings.host, settings.port) if fd is None else socket.socket(fileno=fd)
        with stop_on_signals() as stop:
            async with api_services(settings) as services, serving(services, listener):
                log.info("serving", host=settings.host, port=listener.getsockname()[1])
                await stop.wait()
                log.info("stopping")
    except (PortInUse, MissingSetting, ValueError, TimeoutError) as error:
        raise ServeError(str(error) or NO_SCHEMA) from error
