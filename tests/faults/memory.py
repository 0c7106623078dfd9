"""A control group with little memory, in which the kernel kills a process when the memory is used up."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_GROUPS = Path("/sys/fs/cgroup")

# Allocates memory until the group's limit is reached.
_HOG = """
print(flush=True)
input()
taken = []
while True:
    taken.append(b"x" * 2**20)
"""


class MemoryGroup:
    """A control group; its processes share one memory limit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hog = subprocess.Popen(
            [sys.executable, "-c", _HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._hog.stdout is not None
        self._hog.stdout.readline()
        self._add(self._hog.pid)

    def add(self, pid: int) -> None:
        """Move a process into the group, as the first to be killed; memory it had allocated before does not count."""
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        self._add(pid)

    def _add(self, pid: int) -> None:
        (self._folder / "cgroup.procs").write_text(str(pid))

    def exhaust(self) -> None:
        """Use up the group's memory."""
        assert self._hog.stdin is not None
        self._hog.stdin.write(b"\n")
        self._hog.stdin.flush()

    def close(self) -> None:
        """Kill the remaining processes and remove the group."""
        self._hog.kill()
        self._hog.wait()
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                return
            # Killed processes may still be exiting.
            assert time.monotonic() < deadline, f"{self._folder} can't be removed"
            time.sleep(0.05)


@contextmanager
def memory_group(megabytes: int = 64) -> Iterator[MemoryGroup]:
    """Yield a group with a limit; skip the test where this machine does not allow one."""
    first_version = _GROUPS / "memory"
    parent, limit = (first_version, "memory.limit_in_bytes") if first_version.is_dir() else (_GROUPS, "memory.max")
    folder = parent / f"imago-faults-{time.time_ns()}"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(megabytes * 2**20))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"can't create a control group with a memory limit here: {error.strerror}")
    group = MemoryGroup(folder)
    try:
        yield group
    finally:
        group.close()
