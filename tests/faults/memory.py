"""A group of processes with little memory, in which the kernel kills one when there is none left."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_GROUPS = Path("/sys/fs/cgroup")

# Takes memory until the group has none left.
_HOG = """
print(flush=True)
input()
taken = []
while True:
    taken.append(b"x" * 2**20)
"""


class MemoryGroup:
    """A control group of the kernel's; processes in it share one limit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hog = subprocess.Popen(
            [sys.executable, "-c", _HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._hog.stdout is not None
        self._hog.stdout.readline()
        self._add(self._hog.pid)

    def add(self, pid: int) -> None:
        """Put a process into the group, as the first to be killed; what it has taken before doesn't count."""
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        self._add(pid)

    def _add(self, pid: int) -> None:
        (self._folder / "cgroup.procs").write_text(str(pid))

    def exhaust(self) -> None:
        """Have the group's memory used up."""
        assert self._hog.stdin is not None
        self._hog.stdin.write(b"\n")
        self._hog.stdin.flush()

    def close(self) -> None:
        """End what is left in the group, and the group."""
        self._hog.kill()
        self._hog.wait()
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                return
            # Processes that were killed may still be about to leave.
            assert time.monotonic() < deadline, f"{self._folder} can't be removed"
            time.sleep(0.05)


@contextmanager
def memory_group(megabytes: int = 64) -> Iterator[MemoryGroup]:
    """Give a group with a limit; the test is skipped where this machine lets nobody make one."""
    first_version = _GROUPS / "memory"
    parent, limit = (first_version, "memory.limit_in_bytes") if first_version.is_dir() else (_GROUPS, "memory.max")
    folder = parent / f"imago-faults-{time.time_ns()}"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(megabytes * 2**20))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no group of processes with a limit on memory can be made here: {error.strerror}")
    group = MemoryGroup(folder)
    try:
        yield group
    finally:
        group.close()
