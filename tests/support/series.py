"""The metric series of Imago and its operator, for checks of dashboards, rules and runbooks."""

from prometheus_client import REGISTRY

import imago.telemetry.metrics
import imago_operator.metrics

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


def existing_series() -> set[str]:
    """Return the names of all series."""
    assert imago.telemetry.metrics.BUILD_INFO
    assert imago_operator.metrics.RECONCILES
    return {family.name + suffix for family in REGISTRY.collect() for suffix in _SUFFIXES.get(family.type, ("",))}
