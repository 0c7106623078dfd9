"""The CPU time of an instance's steps, from Linux's /proc."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")

# The arguments of the processes of `imago dev`, and the step that is done in each.
_STEPS = {
    ("api",): "upload",
    ("worker", "exif"): "thumbnail and exif",
    ("worker", "ocr"): "ocr",
    ("worker", "vision"): "vision",
}


@dataclass(frozen=True)
class _Process:
    parent: int
    seconds: float
    step: str | None


def cpu_seconds(root: int) -> dict[str, float]:
    """Return the CPU seconds so far of each step, of the processes below `root`; empty where there is no /proc."""
    processes = {int(entry.name): found for entry in _PROC.glob("[0-9]*") if (found := _read(entry))}
    seconds: dict[str, float] = {}
    for pid, process in processes.items():
        step = _step(pid, root, processes)
        if step:
            seconds[step] = seconds.get(step, 0.0) + process.seconds
    return {step: seconds[step] for step in _STEPS.values() if step in seconds}


def cpu_per_image(before: Mapping[str, float], after: Mapping[str, float], images: int) -> dict[str, float]:
    """Return the milliseconds of each step per image; empty without images."""
    return {step: (after[step] - before[step]) * 1000 / images for step in after if step in before} if images else {}


def _step(pid: int, root: int, processes: Mapping[int, _Process]) -> str | None:
    """Return the step of a process, or of the nearest ancestor that has one; None outside of `root`."""
    step = None
    while pid in processes and pid != root:
        step = step or processes[pid].step
        pid = processes[pid].parent
    return step if pid == root else None


def _read(entry: Path) -> _Process | None:
    """Read a process; return None if it has ended. The columns are those of proc(5), after the name."""
    try:
        columns = (entry / "stat").read_text().rpartition(")")[2].split()
        arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    # utime, stime, and those of children that have ended.
    ticks = sum(int(columns[index]) for index in (11, 12, 13, 14))
    return _Process(int(columns[1]), ticks / os.sysconf("SC_CLK_TCK"), _step_of(arguments))


def _step_of(arguments: list[str]) -> str | None:
    if "imago.cli.main" not in arguments:
        return None
    command = arguments[arguments.index("imago.cli.main") + 1 :]
    return next((step for words, step in _STEPS.items() if tuple(command[: len(words)]) == words), None)
