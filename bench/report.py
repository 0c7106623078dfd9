"""The report of a run: figures with their spread, targets, tables and plots."""

import json
import operator
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench.plots import Series, bars, lines
from bench.statistics import Sample

_COMPARE: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}
_PACKAGES = ("aiohttp", "SQLAlchemy", "asyncpg", "nats-py", "pillow", "tesserocr", "uvloop")


@dataclass
class Section:
    """The section of one measurement."""

    title: str
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)


class Report:
    """Collects figures; a missed target is reported, and raises no error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = datetime.now(UTC)
        self._load = os.getloadavg()
        self.figures: dict[str, float] = {}
        self.spreads: dict[str, dict[str, float]] = {}
        self.targets: dict[str, dict[str, Any]] = {}
        self.sections: list[Section] = []
        folder.mkdir(parents=True, exist_ok=True)

    def section(self, title: str) -> None:
        """Start the section of another measurement."""
        self.sections.append(Section(title))

    def add(
        self, name: str, value: Sample | float, *, relation: str | None = None, target: float | None = None
    ) -> float:
        """Add a figure, with its target if it has one; return its median."""
        sample = value if isinstance(value, Sample) else Sample((float(value),))
        figure = _short(sample.median)
        self.figures[name] = figure
        self.sections[-1].names.append(name)
        if len(sample.values) > 1:
            self.spreads[name] = {
                "low": _short(sample.low),
                "high": _short(sample.high),
                "rounds": len(sample.values),
            }
        if relation is not None and target is not None:
            met = _COMPARE[relation](sample.median, target)
            self.targets[name] = {"value": figure, "target": f"{relation} {target:g}", "met": met}
        return sample.median

    def note(self, text: str) -> None:
        """Add a note that explains the figures."""
        self.sections[-1].notes.append(text)

    def plot_bars(self, name: str, title: str, unit: str, series: Sequence[Series], labels: Sequence[str]) -> None:
        """Add a bar chart."""
        self._plot(name, bars(title, unit, series, labels))

    def plot_lines(
        self, name: str, title: str, axes: tuple[str, str], series: Sequence[Series], at: Sequence[float]
    ) -> None:
        """Add a line chart over the values `at`."""
        self._plot(name, lines(title, axes, series, at))

    def write(self) -> None:
        """Write bench.json and bench.md to the parent directory of the plots."""
        machine = self._machine()
        document = {
            "figures": self.figures,
            "targets": self.targets,
            "spreads": self.spreads,
            "machine": machine,
            "began": self._began.isoformat(timespec="seconds"),
            "minutes": round((datetime.now(UTC) - self._began).total_seconds() / 60, 1),
        }
        (self._folder.parent / "bench.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        text = [f"# Benchmark of {self._began:%Y-%m-%d}", "", *self._described(machine)]
        for section in self.sections:
            text += ["", f"## {section.title}", "", *self._table(section)]
            text += [line for note in section.notes for line in ("", note)]
            text += [line for plot in section.plots for line in ("", f"![{plot}]({self._folder.name}/{plot}.svg)")]
        (self._folder.parent / "bench.md").write_text("\n".join(text) + "\n")

    def missed(self) -> list[str]:
        """Return the names of the targets that were missed."""
        return [name for name, target in self.targets.items() if not target["met"]]

    def _plot(self, name: str, svg: str) -> None:
        (self._folder / f"{name}.svg").write_text(svg)
        self.sections[-1].plots.append(name)

    def _table(self, section: Section) -> list[str]:
        if not section.names:
            return []
        rows = ["| figure | median | spread (quartiles) | target | met |", "|---|---:|---|---|---|"]
        for name in section.names:
            spread, target = self.spreads.get(name), self.targets.get(name)
            shown = f"{spread['low']:g} to {spread['high']:g}, {spread['rounds']} rounds" if spread else ""
            met = "" if target is None else ("yes" if target["met"] else "**no**")
            rows.append(f"| {name} | {self.figures[name]:g} | {shown} | {target['target'] if target else ''} | {met} |")
        return rows

    def _machine(self) -> dict[str, Any]:
        cpu = next(
            (
                line.partition(":")[2].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        return {
            "system": platform.platform(),
            "cpu": cpu,
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in _PACKAGES},
            "load_before": [round(value, 1) for value in self._load],
            "load_after": [round(value, 1) for value in os.getloadavg()],
        }

    def _described(self, machine: dict[str, Any]) -> list[str]:
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
        return [
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {machine['system']}; "
            f"Python {machine['python']}; {packages}. Load average {machine['load_before'][0]} before, "
            f"{machine['load_after'][0]} after: other work on the machine multiplies wall-clock figures, lets CPU "
            "times grow, and hardly changes ratios.",
            "",
            f"{sum(target['met'] for target in self.targets.values())} of {len(self.targets)} targets met.",
        ]


def _short(value: float) -> float:
    """Round to four significant digits, the precision of the measurements."""
    return float(f"{value:.4g}")
