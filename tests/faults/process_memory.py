"""The peak memory of an instance's processes, and which of them died."""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from devtools.instance import Instance

KIB = 2**10

_SAMPLE_SECONDS = 0.2


@dataclass
class Watch:
    """The memory that processes used at most, by their names, and the parents that died."""

    peaks: Counter[str] = field(default_factory=Counter)
    peak_sum: int = 0
    parents: dict[int, str] = field(default_factory=dict)
    dead_parents: list[str] = field(default_factory=list)


async def watch_processes(instance: Instance, watch: Watch) -> None:
    """Record peaks, and parent processes that end, until cancelled."""
    for process in instance.processes():
        if name := parent_name(process):
            watch.parents[process.pid] = name
    while True:
        await asyncio.to_thread(_sample, instance, watch)
        await asyncio.sleep(_SAMPLE_SECONDS)


def _sample(instance: Instance, watch: Watch) -> None:
    total, alive = 0, set()
    for process in instance.processes():
        try:
            name = parent_name(process) or f"child of {parent_name(process.parent() or process) or 'a child'}"
            total += process.memory_info().rss
            peak = _peak(process.pid)
        except (psutil.Error, OSError):
            continue
        alive.add(process.pid)
        watch.peaks[name] = max(watch.peaks[name], peak)
    watch.peak_sum = max(watch.peak_sum, total)
    for pid in [pid for pid in watch.parents if pid not in alive]:
        watch.dead_parents.append(watch.parents.pop(pid))


def _peak(pid: int) -> int:
    """Return the most memory that a process has used, in bytes: the kernel counts it between samples, too."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), flags=re.MULTILINE)
    return int(found[1]) * KIB if found else 0


def parent_name(process: psutil.Process) -> str | None:
    """Return the name of a process that `imago dev` runs itself, None for a child of one of those."""
    try:
        line = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None
    if "imago.cli.main" in line:
        return " ".join(line[line.index("imago.cli.main") + 1 :][:2]).split(" --")[0]
    if line and line[0].endswith("nats-server"):
        return "nats-server"
    return "imago dev" if "dev" in line and "--data-dir" in line else None
