"""A real nats-server for tests, which can be killed and restarted with its store."""

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from imago.nats.embedded import find_server, free_port


class NatsServer:
    """A nats-server process with JetStream on free ports of 127.0.0.1; `config` is additional configuration."""

    def __init__(self, directory: Path, config: str = "") -> None:
        self._directory = directory
        self.config = config
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
        """The URL for clients."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server is running."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the server and wait until it is healthy."""
        config = self._directory / "server.conf"
        config.write_text(self.config)
        self._process = subprocess.Popen(
            [find_server(), "-c", str(config), "-a", "127.0.0.1", "-p", str(self._port), "-m", str(self._monitor)]
            + ["-js", "-sd", str(self._directory / "store"), "-l", str(self._directory / "log")]
        )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the server is healthy; a member of a cluster is healthy once it has found the others."""
        assert self._process is not None
        deadline = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, f"nats-server ended, see {self._directory / 'log'}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/healthz") as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, "nats-server was not ready after 20 s"
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server, as in a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the server if it is running."""
        if self._process is not None and self.running:
            self._process.terminate()
            self._process.wait(10)
