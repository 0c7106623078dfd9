"""`imago worker`."""

import structlog

from imago.cli.parts import stop_on_signals
from imago.cli.starting import NO_SCHEMA, ServeError, configure
from imago.cli.worker_parts import worker
from imago.listening import PortInUse
from imago.settings import Settings

log = structlog.get_logger(__name__)


async def run_worker(settings: Settings, kind: str) -> None:
    """Work until a signal comes."""
    configure(settings, f"worker-{kind}")
    try:
        with stop_on_signals() as stop:
            async with worker(settings, kind) as working:
                log.info("working", kind=kind, lanes=settings.worker_lanes)
                await working.run(stop)
    except (PortInUse, ValueError, TimeoutError) as error:
        raise ServeError(str(error) or NO_SCHEMA) from error
