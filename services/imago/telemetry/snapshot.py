"""Gauges that only one process exposes: the one that holds the lease of the task that sets them."""

import math
import os
from collections.abc import Mapping

from prometheus_client import Gauge

Labels = tuple[str, ...]


class Snapshot:
    """The values of some gauges, replaced as a whole, so that series without a current value disappear.

    Processes that share a directory (`imago dev`) can't remove a series. There its value becomes 0 instead, and `clear`
    does nothing, because the value set last is exposed, whichever process set it.
    """

    def __init__(self, *gauges: Gauge) -> None:
        self._known: dict[Gauge, set[Labels]] = {gauge: set() for gauge in gauges}

    def replace(self, gauge: Gauge, values: Mapping[Labels, float]) -> None:
        """Set the values of a gauge by labels, and remove its other series."""
        removed = self._known[gauge] - set(values)
        for labels in removed:
            self._remove(gauge, labels)
        for labels, value in values.items():
            (gauge.labels(*labels) if labels else gauge).set(value)
        self._known[gauge] = set(values) | (removed if _shared() else set())

    def clear(self) -> None:
        """Remove all series: another process exposes them now."""
        if _shared():
            return
        for gauge, known in self._known.items():
            for labels in known:
                self._remove(gauge, labels)
            known.clear()

    def _remove(self, gauge: Gauge, labels: Labels) -> None:
        if not labels:
            # A gauge without labels can't be removed. NaN fails every comparison, and `max` ignores it.
            gauge.set(math.nan)
        elif _shared():
            gauge.labels(*labels).set(0)
        else:
            gauge.remove(*labels)


def _shared() -> bool:
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ
