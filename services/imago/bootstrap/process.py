"""What every serving process does first."""

from imago import failpoints
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.logs import configure_logging
from imago.telemetry.tracing import configure_tracing


def configure(settings: Settings, service: str) -> None:
    """Set logs, traces and metrics up for a service."""
    failpoints.arm(settings.failpoints)
    configure_logging(level="debug" if settings.debug else settings.log_level, console=settings.debug)
    configure_tracing(settings, service=service)
    metrics.name_clients(settings.metrics_clients)
    metrics.announce_process(service)
    if service == "api":
        metrics.announce_api()
