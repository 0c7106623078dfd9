"""What every serving process does first, and how it says that it can't start."""

from imago import failpoints
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.logs import configure_logging
from imago.telemetry.tracing import configure_tracing

NO_SCHEMA = "the database has not the schema that this version needs"


class ServeError(Exception):
    """The process can't start; the text is one line for a person."""


def configure(settings: Settings, service: str) -> None:
    """Set logs, traces and metrics up for a service."""
    failpoints.arm(settings.failpoints)
    configure_logging(level="debug" if settings.debug else settings.log_level, console=settings.debug)
    configure_tracing(settings, service=service)
    metrics.set_client_labels(settings.metrics_clients)
    metrics.set_build_info(service)
    if service == "api":
        metrics.init_api_series()
