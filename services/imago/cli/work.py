"""`imago worker`."""

import structlog

from imago.bootstrap.parts import stop_on_signals
from imago.bootstrap.process import NO_SCHEMA, ServeError, configure
from imago.bootstrap.worker import worker
from imago.settings import Settings
from imago.startup import PortInUse

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
