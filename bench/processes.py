"""CPU time and memory of process groups, from /proc."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil


class Group:
    """Processes with all their children, running or reaped."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]

    def members(self) -> list[psutil.Process]:
        """Return the running processes."""
        found = {root.pid: root for root in self._roots if root.is_running()}
        for root in tuple(found.values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {child.pid: child for child in root.children(recursive=True)}
        return list(found.values())

    def cpu_seconds(self) -> float:
        """Return the user and system CPU time, including that of reaped children."""
        total = 0.0
        for process in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory(self) -> int:
        """Return the proportional set size (PSS) in bytes, which divides shared pages among their users."""
        total = 0
        for process in self.members():
            # A process that hides its memory, as workers do, shows it only to root: then this must fail.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        return total


class Meter:
    """The CPU that process groups used since this object was created."""

    def __init__(self, groups: dict[str, Group]) -> None:
        self._groups = groups
        self._before = {name: group.cpu_seconds() for name, group in groups.items()}

    def used(self) -> dict[str, float]:
        """Return the CPU seconds of each group."""
        return {name: group.cpu_seconds() - self._before[name] for name, group in self._groups.items()}
