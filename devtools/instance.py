"""A running `imago dev`, as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from imago.nats.embedded import free_port

IMAGO = Path(sys.executable).parent / "imago"


class Instance:
    """`imago dev` in a child process."""

    def __init__(self, data_dir: Path, *, port: int | None = None, **environment: str) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self._environment = {**os.environ, **environment}
        self.process: subprocess.Popen[str] | None = None
        self.output = ""

    def start(self, timeout: float = 60) -> "Instance":
        """Start the process and wait until it reports that it is running."""
        command = [IMAGO, "dev", "--port", str(self.port), "--data-dir", self.data_dir]
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            # A developer's `.env` must not apply to the instance.
            cwd=self.data_dir.parent,
        )
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout
        try:
            while "Press Ctrl-C to stop." not in self.output:
                line = self.process.stdout.readline()
                self.output += line
                assert line, f"`imago dev` ended while starting:\n{self.output}"
                assert time.monotonic() < deadline, f"`imago dev` did not start in {timeout} s:\n{self.output}"
        except BaseException:
            # The fixture does not have this object yet, so it could not stop the process.
            self.kill()
            raise
        return self

    def processes(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        assert self.process is not None
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30) -> float:
        """Stop the process; return the seconds until it ended."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout)
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill the remaining processes."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def imago(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run an `imago` command against this instance."""
        command = [str(IMAGO), *map(str, arguments), "--data-dir", str(self.data_dir)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=self.data_dir.parent,
            check=False,
            timeout=170,
        )
        assert not check or done.returncode == 0, done.stderr or done.stdout
        return done

    def upload(self, *paths: Path, check: bool = True) -> list[dict[str, Any]]:
        """Upload files, wait for them, and return what `--json` prints."""
        result: list[dict[str, Any]] = json.loads(self.imago("upload", *paths, "--wait", "--json", check=check).stdout)
        return result

    def logs(self) -> list[dict[str, Any]]:
        """Return the log records of its processes, in order."""
        lines = [line for log in self.data_dir.glob("logs/*.log") for line in log.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def key(self) -> str:
        """The default client's key."""
        saved: dict[str, str] = json.loads((self.data_dir / "default-client.json").read_text())
        return saved["api_key"]
