"""The figures of a tier: compared with their targets, and written as JSON and as a Markdown table."""

import json
import operator
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_COMPARE: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass
class Figures:
    """Figures and targets, collected while tests run."""

    tier: str
    figures: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, name: str, value: float | str) -> None:
        """Record a figure that has no target."""
        self.figures[name] = round(value, 3) if isinstance(value, float) else value

    def hold(self, name: str, value: float, relation: str, target: float) -> None:
        """Record a figure and fail if it misses its target; the worst of several with the same name is kept."""
        rounded, met = round(value, 3), _COMPARE[relation](value, target)
        before = self.targets.get(name)
        if before is None or not met or (before["met"] and _COMPARE[relation](before["value"], rounded)):
            self.figures[name] = rounded
            self.targets[name] = {"value": rounded, "target": f"{relation} {target:g}", "met": met}
        assert met, f"{name}: {rounded:g}, the target is {relation} {target:g}"

    def write(self, folder: Path) -> None:
        """Write `<tier>.json` and `<tier>.md`, unless nothing was measured."""
        if not self.figures:
            return
        folder.mkdir(exist_ok=True)
        machine = {"system": platform.platform(), "python": platform.python_version()}
        document = {"figures": self.figures, "targets": self.targets, "machine": machine}
        (folder / f"{self.tier}.json").write_text(json.dumps(document, indent=2) + "\n")
        lines = ["| figure | value | target | met |", "|---|---|---|---|"]
        for name, value in self.figures.items():
            target = self.targets.get(name)
            met = "" if target is None else ("yes" if target["met"] else "**no**")
            lines.append(f"| {name} | {value} | {target['target'] if target else ''} | {met} |")
        (folder / f"{self.tier}.md").write_text("\n".join(lines) + "\n")
