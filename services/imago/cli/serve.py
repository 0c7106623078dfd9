"""`imago api` and `imago worker`."""

import socket

import structlog

from imago import failpoints
from imago.ai.providers import ProviderUnavailable
from imago.api.server import PortInUse, bind, serving
from imago.cli.parts import MissingSetting, api_services, stop_on_signals, worker
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.logs import configure_logging
from imago.telemetry.tracing import configure_tracing

log = structlog.get_logger(__name__)


class ServeError(Exception):
    """The process can't start; the text is one line for a person."""


async def run_api(settings: Settings, *, fd: int | None = None) -> None:
    """Serve the API until a signal comes; `fd` is a socket that is bound already."""
    _configure(settings, "api")
    try:
        listener = bind(settings.host, settings.port) if fd is None else socket.socket(fileno=fd)
        with stop_on_signals() as stop:
            async with api_services(settings) as services, serving(services, listener):
                log.info("serving", host=settings.host, port=listener.getsockname()[1])
                await stop.wait()
                log.info("stopping")
    except (PortInUse, MissingSetting, ProviderUnavailable, ValueError, TimeoutError) as error:
        raise ServeError(str(error) or "the database has not the schema that this version needs") from error


async def run_worker(settings: Settings, kind: str) -> None:
    """Work until a signal comes."""
    _configure(settings, f"worker-{kind}")
    try:
        with stop_on_signals() as stop:
            async with worker(settings, kind) as working:
                log.info("working", kind=kind, lanes=settings.worker_lanes)
                await working.run(stop)
    except (PortInUse, ProviderUnavailable, ValueError, TimeoutError) as error:
        raise ServeError(str(error) or "the database has not the schema that this version needs") from error


def _configure(settings: Settings, service: str) -> None:
    failpoints.arm(settings.failpoints)
    configure_logging(level="debug" if settings.debug else settings.log_level, console=settings.debug)
    configure_tracing(settings, service=service)
    metrics.name_clients(settings.metrics_clients)
    metrics.announce_process(service)
