"""A real nats-server for tests, which may also be killed and started again on its store."""

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from imago.bus.embedded import find_server, free_port


class NatsServer:
    """A nats-server process with JetStream on free ports of 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self._monitor = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server and wait until it is healthy."""
        self._process = subprocess.Popen(
            [find_server(), "-a", "127.0.0.1", "-p", str(self._port), "-m", str(self._monitor), "-js"]
            + ["-sd", str(self._directory / "store"), "-l", str(self._directory / "log")]
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/healthz") as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, "nats-server did not get ready in 20 s"
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the server."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)
