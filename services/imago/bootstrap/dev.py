"""`imago dev`: NATS, the API and all workers on one machine, started, watched and stopped together."""

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import click
from nats.js.errors import ServerError

from imago.ai.provider_chain import provider_chain
from imago.bootstrap.data_dir import (
    DEFAULT_CLIENT,
    ensure_secrets,
    locked,
    metrics_directory,
    read_json,
    write_private,
)
from imago.bootstrap.dev_logs import follow_logs
from imago.bootstrap.dev_settings import check_settings, environment_of
from imago.bootstrap.embedding import check_embedding
from imago.bootstrap.parts import database, nats_connection, stop_on_signals, unknown_settings
from imago.bootstrap.sandbox import check_sandbox
from imago.bootstrap.supervisor import SupervisedProcess, die_with_parent
from imago.core.clients import keys
from imago.core.clients.changes import NewClient, create_client
from imago.core.clients.model import Pipeline, Plan
from imago.core.clients.queries import first_client
from imago.core.clients.scopes import CLIENT_SCOPES
from imago.core.jobs.stages import server_workers
from imago.db.engine import Database
from imago.db.migrations import upgrade
from imago.imaging.sandbox import libc
from imago.nats.embedded import EmbeddedNats
from imago.nats.streams import StreamOptions, ensure_streams
from imago.runtime.cancellation import end_tasks
from imago.runtime.startup import StartupError, bind
from imago.settings import Settings, read_environment
from imago.telemetry.logs import configure_logging

STOP_SECONDS = 7.0
READY_SECONDS = 60.0
RESTART_SECONDS = 2.0


async def run_dev(
    settings: Settings, *, host: str | None, port: int | None, data_dir: Path, verbose: bool = False
) -> None:
    """Run everything until SIGINT or SIGTERM; `data_dir` is absolute. Raises StartupError.

    Without `host` and `port`, those of the settings apply. `verbose` shows the logs on standard error, as the log level
    debug does.
    """
    configure_logging(level="error", console=True)
    check_settings(settings)
    # Its errors would otherwise be those of a worker.
    provider_chain(settings)
    check_sandbox(settings)
    await check_embedding(settings)
    if sys.platform == "linux":
        # From children of the workers: the environment has the keys, and no pool of this process hides it.
        libc.hide_memory()
    for warning in unknown_settings():
        click.echo(f"imago: warning: {warning}", err=True)
    address = settings.host if host is None else host, settings.port if port is None else port
    with (
        locked(data_dir),
        stop_on_signals() as stop,
        bind(*address) as listener,
        metrics_directory(data_dir) as metrics,
    ):
        url = f"http://{_reachable(address[0])}:{listener.getsockname()[1]}"
        async with _embedded_nats(data_dir) as nats, _logs(data_dir, shown=verbose or _debugging(settings)):
            environment = environment_of(
                data_dir, nats=nats, metrics_dir=metrics, secrets=ensure_secrets(data_dir), settings=settings
            )
            first_key = await _prepare(_settings(environment), nats, data_dir, url)
            workers = server_workers(settings.stages_off)
            async with _running(_processes(environment, data_dir, listener, workers=workers)):
                await _wait_ready(url, stop)
                if not stop.is_set():
                    _print_started(url, data_dir, first_key)
                await _watch_nats(nats, stop)


def _debugging(settings: Settings) -> bool:
    return settings.debug or settings.log_level == "debug"


@asynccontextmanager
async def _logs(data_dir: Path, *, shown: bool) -> AsyncIterator[None]:
    """Show the processes' log lines on standard error if they are asked for."""
    following = asyncio.create_task(follow_logs(data_dir / "logs")) if shown else None
    try:
        yield
    finally:
        await end_tasks(following)


def _reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    try:
        return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host


@asynccontextmanager
async def _embedded_nats(data_dir: Path) -> AsyncIterator[EmbeddedNats]:
    nats = EmbeddedNats(data_dir / "nats", before_exec=die_with_parent)
    await nats.start()
    try:
        yield nats
    finally:
        await nats.stop()


def _settings(environment: dict[str, str]) -> Settings:
    # Read from the environment, so that this process sees exactly what its children will.
    os.environ.update({name: value for name, value in environment.items() if name != "PROMETHEUS_MULTIPROC_DIR"})
    return read_environment()


async def _prepare(settings: Settings, server: EmbeddedNats, data_dir: Path, url: str) -> str | None:
    """Migrate the database, create the streams and the default client; return the client's key if it is new."""
    async with database(settings, schema_timeout=None) as db:
        await upgrade(db)
        try:
            await _ensure_streams(settings)
        except ServerError:
            if not await server.found_damage():
                raise
            await server.rebuild()
            await _ensure_streams(settings)
        return await _ensure_default_client(db, settings, data_dir / DEFAULT_CLIENT, url)


async def _ensure_streams(settings: Settings) -> None:
    async with nats_connection(settings, name="api") as nats:
        await nats.wait_connected(settings.nats_timeout)
        await ensure_streams(nats.js, options=StreamOptions.of(settings))


async def _ensure_default_client(db: Database, settings: Settings, path: Path, url: str) -> str | None:
    saved = await asyncio.to_thread(read_json, path)
    if await first_client(db) is not None:
        if saved and saved.get("url") != url:
            write_private(path, {**saved, "url": url})
        return None
    if settings.api_key_pepper is None:
        raise StartupError("API_KEY_PEPPER is not set")
    # The key is written before its digest is committed: a crash in between leaves a key without a client, which the
    # next start uses, and never a client whose key is lost.
    key = keys.parse(saved.get("api_key", "")) or keys.generate()
    new = NewClient("default", Plan.PREMIUM, CLIENT_SCOPES, {}, Pipeline(), uuid=_client_id(saved))
    write_private(path, {"client_id": str(new.uuid), "api_key": key.reveal(), "url": url})
    await create_client(db, new, key=key, pepper=settings.api_key_pepper.get_secret_value())
    return key.reveal()


def _client_id(saved: dict[str, str]) -> UUID:
    with contextlib.suppress(KeyError, ValueError):
        return UUID(saved["client_id"])
    return uuid4()


def _processes(
    environment: dict[str, str], data_dir: Path, listener: socket.socket, *, workers: Iterable[str]
) -> list[SupervisedProcess]:
    listener.set_inheritable(True)
    arguments = {
        "api": ["api", "--fd", str(listener.fileno())],
        **{f"worker-{kind}": ["worker", kind] for kind in workers},
    }
    return [
        SupervisedProcess(
            name,
            [sys.executable, "-m", "imago.cli.main", *command],
            environment=_environment_of_process(name, environment),
            log=data_dir / "logs" / f"{name}.log",
            pass_fds=(listener.fileno(),) if name == "api" else (),
        )
        for name, command in arguments.items()
    ]


def _environment_of_process(name: str, environment: dict[str, str]) -> dict[str, str]:
    # One port can have only one server; the API's exposes the metrics of all processes.
    return {key: value for key, value in environment.items() if name == "api" or key != "METRICS_PORT"}


@asynccontextmanager
async def _running(processes: list[SupervisedProcess]) -> AsyncIterator[None]:
    """Keep processes running, then stop them concurrently."""
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
                        async with session.get(f"{url}/health/ready") as response:
                            if response.status == 200:
                                return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StartupError("the API did not become ready; see the logs in the data directory") from None


async def _watch_nats(nats: EmbeddedNats, stop: asyncio.Event) -> None:
    """Wait for `stop`; restart the NATS server whenever it exits."""
    while not stop.is_set():
        exited = asyncio.create_task(nats.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([exited, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            click.echo(f"nats-server exited with code {exited.result()}, restarting", err=True)
            await _restart_nats(nats, stop)
        for task in (exited, stopping):
            task.cancel()


async def _restart_nats(nats: EmbeddedNats, stop: asyncio.Event) -> None:
    """Start the server again, as often as it takes: reads of the API need no NATS."""
    while not stop.is_set():
        try:
            await nats.start()
        except StartupError as error:
            click.echo(f"nats-server: {error}", err=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESTART_SECONDS):
                    await stop.wait()
        else:
            return


def _print_started(url: str, data_dir: Path, first_key: str | None) -> None:
    click.echo(f"Imago is running at {url}")
    click.echo(f"  docs      {url}/docs")
    click.echo(f"  data      {data_dir} (logs in {data_dir / 'logs'})")
    if first_key:
        click.echo(f"  API key   {first_key}")
    click.echo(f"  key file  {data_dir / DEFAULT_CLIENT}")
    click.echo("Press Ctrl-C to stop.")
    sys.stdout.flush()
