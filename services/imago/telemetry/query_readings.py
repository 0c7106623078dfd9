"""Metrics of the models that read queries."""

from imago.core.images.search.recent import ObserveReading
from imago.telemetry import metrics


def reading_observer(model: str) -> ObserveReading:
    """Return what counts and times the readings of a model, `concepts` or `embedding`."""
    for outcome in ("read", "busy", "failed"):
        metrics.QUERY_READINGS.labels(model, outcome)
    metrics.QUERY_SECONDS.labels(model)

    def observe(outcome: str, seconds: float) -> None:
        metrics.QUERY_READINGS.labels(model, outcome).inc()
        metrics.QUERY_SECONDS.labels(model).observe(seconds)

    return observe
