"""Gauges that one process sets for all: what a chore under a lease saw last, and nothing where it isn't the holder."""

import math
import os
from collections.abc import Mapping

from prometheus_client import Gauge

Labels = tuple[str, ...]


class Snapshot:
    """The values of some gauges, replaced as a whole, so that what is gone doesn't go on being told.

    Processes that share a directory (`imago dev`) can't take a label back; there its value becomes 0, and nothing is
    forgotten: the value set last is the one that is shown, whoever set it.
    """

    def __init__(self, *gauges: Gauge) -> None:
        self._known: dict[Gauge, set[Labels]] = {gauge: set() for gauge in gauges}

    def replace(self, gauge: Gauge, values: Mapping[Labels, float]) -> None:
        """Show these values of a gauge, by the values of its labels, and no others."""
        gone = self._known[gauge] - set(values)
        for labels in gone:
            self._drop(gauge, labels)
        for labels, value in values.items():
            (gauge.labels(*labels) if labels else gauge).set(value)
        self._known[gauge] = set(values) | (gone if _shared() else set())

    def clear(self) -> None:
        """Show nothing: another process does it now, and two answers would be one too many."""
        if _shared():
            return
        for gauge, known in self._known.items():
            for labels in known:
                self._drop(gauge, labels)
            known.clear()

    def _drop(self, gauge: Gauge, labels: Labels) -> None:
        if not labels:
            # There is no taking back of a gauge without labels; NaN fails every comparison, and `max` passes it over.
            gauge.set(math.nan)
        elif _shared():
            gauge.labels(*labels).set(0)
        else:
            gauge.remove(*labels)


def _shared() -> bool:
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ
