"""`imago dev`: all of Imago on one machine, its parts started, watched and stopped together."""

import asyncio
import contextlib
import fcntl
import ipaddress
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import click

from imago.bootstrap.data_dir import DEFAULT_CLIENT, SECRETS
from imago.bootstrap.parts import nats_connection, stop_on_signals
from imago.bootstrap.processes import Process, die_with_parent
from imago.core.clients import keys
from imago.core.clients.model import Pipeline, Plan, default_scopes
from imago.core.clients.queries import NewClient, create_client, first_client
from imago.core.jobs.stages import WORKER_STAGES
from imago.db.engine import Database
from imago.db.migrations import upgrade
from imago.nats.embedded import EmbeddedNats, EmbeddedNatsError
from imago.nats.streams import StreamOptions, ensure_streams
from imago.settings import Settings
from imago.startup import PortInUse, bind
from imago.telemetry.logs import configure_logging
from imago.telemetry.metrics import clear_directory

# Together they must leave room for NATS to stop, within the 10 s that Ctrl-C may take.
DRAIN_SECONDS = 4
STOP_SECONDS = 7.0
READY_SECONDS = 60.0

_GENERATED = ("ADMIN_API_KEY", "API_KEY_PEPPER", "SIGNED_URL_SECRET", "JWT_SECRET_KEY")


class DevError(Exception):
    """It can't start; the text is one line for a person."""


async def run_dev(*, host: str, port: int, data_dir: Path) -> None:
    """Run everything until Ctrl-C or SIGTERM; `data_dir` is absolute; raise DevError."""
    configure_logging(level="error", console=True)
    try:
        with _own(data_dir), stop_on_signals() as stop:
            listener = bind(host, port)
            url = f"http://{reachable(host)}:{listener.getsockname()[1]}"
            listener.set_inheritable(True)
            nats = EmbeddedNats(data_dir / "nats", before_exec=die_with_parent)
            await nats.start()
            try:
                environment = _environment(data_dir, nats)
                settings = _settings(environment)
                first_key = await _prepare(settings, data_dir, url)
                names = {"api": ["api", "--fd", str(listener.fileno())]}
                names |= {f"worker-{kind}": ["worker", kind] for kind in WORKER_STAGES}
                processes = [
                    Process(
                        name,
                        [sys.executable, "-m", "imago.cli.main", *arguments],
                        environment=environment,
                        log=data_dir / "logs" / f"{name}.log",
                        pass_fds=(listener.fileno(),) if name == "api" else (),
                    )
                    for name, arguments in names.items()
                ]
                async with _running(processes):
                    await _wait_ready(url, stop)
                    if not stop.is_set():
                        _announce(url, data_dir, first_key)
                    await _watch_nats(nats, stop)
            finally:
                await nats.stop()
                listener.close()
    except (PortInUse, EmbeddedNatsError) as error:
        raise DevError(str(error)) from error


def reachable(host: str) -> str:
    """Return the address that this machine reaches a server by which listens on `host`."""
    try:
        return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host


@contextlib.contextmanager
def _own(data_dir: Path) -> Iterator[None]:
    """Make the data directory and keep other instances out of it."""
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "imago.lock").open("w")
    except OSError as error:
        raise DevError(f"can't write to the data directory {data_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DevError(f"the data directory {data_dir} is in use by another `imago dev`") from None
        yield


def _environment(data_dir: Path, nats: EmbeddedNats) -> dict[str, str]:
    """Return the environment of all processes: what is set already wins, but for the embedded parts."""
    metrics_dir = data_dir / "metrics"
    clear_directory(metrics_dir)
    ours = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{data_dir / 'imago.db'}",
        "STORAGE_BACKEND": "local",
        "STORAGE_DIR": str(data_dir / "objects"),
        "NATS_URL": nats.url,
        "NATS_USER": nats.user,
        "NATS_PASSWORD": nats.password,
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
    }
    defaults = {
        "WORKER_LANES": "premium,standard,*",
        "SHUTDOWN_TIMEOUT": str(DRAIN_SECONDS),
        # NATS forgets across its own restart what was given back to it: after one, such work waits three heartbeats.
        "HEARTBEAT": "3",
        **_secrets(data_dir / SECRETS),
    }
    return {**defaults, **os.environ, **ours}


def _secrets(path: Path) -> dict[str, str]:
    """Return the secrets that were generated at the first start, or generate them."""
    try:
        saved: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        saved = {}
    except (OSError, ValueError) as error:
        raise DevError(f"can't read {path}") from error
    missing = {name: secrets.token_urlsafe(32) for name in _GENERATED if name not in saved}
    if missing:
        saved |= missing
        _write_private(path, saved)
    return saved


def _settings(environment: dict[str, str]) -> Settings:
    # Read through the environment, so that this process sees exactly what the others will.
    os.environ.update({name: value for name, value in environment.items() if name != "PROMETHEUS_MULTIPROC_DIR"})
    return Settings()


async def _prepare(settings: Settings, data_dir: Path, url: str) -> str | None:
    """Migrate, ensure the streams and make the default client; return its key if it is new."""
    db = Database.from_settings(settings)
    try:
        await upgrade(db)
        async with nats_connection(settings, name="api") as nats:
            await nats.wait_connected(settings.nats_timeout)
            await ensure_streams(nats.js, options=StreamOptions(ack_wait=settings.ack_wait))
        return await _default_client(db, settings, data_dir / DEFAULT_CLIENT, url)
    finally:
        await db.close()


async def _default_client(db: Database, settings: Settings, path: Path, url: str) -> str | None:
    saved = await asyncio.to_thread(_saved, path)
    if await first_client(db) is not None:
        if saved and saved.get("url") != url:
            _write_private(path, {**saved, "url": url})
        return None
    if settings.api_key_pepper is None:
        raise DevError("API_KEY_PEPPER is not set")
    # The key is written before its digest is committed: a crash in between leaves a key without a client, which the
    # next start takes up, and never a client whose key nobody has.
    key = keys.parse(saved.get("api_key", "")) or keys.generate()
    new = NewClient("default", Plan.PREMIUM, default_scopes(), {}, Pipeline(), uuid=_uuid(saved))
    _write_private(path, {"client_id": str(new.uuid), "api_key": key.reveal(), "url": url})
    await create_client(db, new, key=key, pepper=settings.api_key_pepper.get_secret_value())
    return key.reveal()


@asynccontextmanager
async def _running(processes: list[Process]) -> AsyncIterator[None]:
    """Keep processes running while the block lasts, then stop them all at once."""
    watchers = [asyncio.create_task(process.keep_running()) for process in processes]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await asyncio.gather(*(process.stop(timeout=STOP_SECONDS) for process in processes))


async def _wait_ready(url: str, stop: asyncio.Event) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not stop.is_set():
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(f"{url}/health/ready") as answer:
                            if answer.status == 200:
                                return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise DevError("the API did not get ready; see the logs in the data directory") from None


async def _watch_nats(nats: EmbeddedNats, stop: asyncio.Event) -> None:
    """Wait for the end; start the server again if it ends by itself."""
    while not stop.is_set():
        ended = asyncio.create_task(nats.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            click.echo(f"nats-server ended with {ended.result()}, starting it again", err=True)
            await nats.start()
        for task in (ended, stopping):
            task.cancel()


def _announce(url: str, data_dir: Path, first_key: str | None) -> None:
    click.echo(f"Imago runs at {url}")
    click.echo(f"  docs      {url}/docs")
    click.echo(f"  data      {data_dir} (logs in {data_dir / 'logs'})")
    if first_key:
        click.echo(f"  API key   {first_key}")
    click.echo(f"  key file  {data_dir / DEFAULT_CLIENT}")
    click.echo("Ctrl-C stops it.")
    sys.stdout.flush()


def _saved(path: Path) -> dict[str, str]:
    try:
        saved: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return saved


def _uuid(saved: dict[str, str]) -> UUID:
    with contextlib.suppress(KeyError, ValueError):
        return UUID(saved["client_id"])
    return uuid4()


def _write_private(path: Path, data: dict[str, str]) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(json.dumps(data, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
