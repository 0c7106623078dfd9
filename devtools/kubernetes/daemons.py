"""Background processes that log to files."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imago.bootstrap.supervisor import die_with_parent


class Daemon:
    """A background process. The kernel kills it when its parent dies."""

    def __init__(
        self, name: str, command: Sequence[object], directory: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = [str(part) for part in command]
        self._directory = directory
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process unless it is running."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._directory,
                env={**os.environ, **(self._environment or {})},
                # Ctrl-C signals the whole foreground group, but these processes are stopped in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def wait(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Wait until `ready` returns True; otherwise fail with the end of the log."""
        deadline = time.monotonic() + timeout
        while not ready():
            assert self.running, f"{self.name} ended while starting:\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} was not ready after {timeout:g} s:\n{self.tail()}"
            time.sleep(0.1)

    def tail(self, lines: int = 20) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def kill(self) -> None:
        """Kill the process, as in a crash."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()

    def stop(self, timeout: float = 10) -> None:
        """Terminate the process, and kill it after the timeout."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
