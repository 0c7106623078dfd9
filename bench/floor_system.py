"""Starts and stops the server of `bench.floor`."""

import os
import shutil
import subprocess
import sys

from bench.environment import ROOT
from bench.processes import Group
from bench.systems import Imago, start, stop, wait_ready
from imago.nats.embedded import free_port


class Floor:
    """The server of `bench.floor`, on the PostgreSQL of a running Imago, as a context manager."""

    def __init__(self, imago: Imago) -> None:
        self._folder = imago.folder / "floor"
        self._database = imago.database_url.replace("+asyncpg", "")
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Floor":
        self._folder.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FLOOR_DATABASE": self._database,
            "FLOOR_FOLDER": str(self._folder),
            "FLOOR_PORT": str(self._port),
        }
        log = self._folder.parent / "floor.log"
        self._process = start([sys.executable, "-m", "bench.floor"], environment, log)
        wait_ready(self.url, self._process, log)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            stop(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def group(self) -> Group:
        """Return its process."""
        assert self._process is not None
        return Group([self._process.pid])
