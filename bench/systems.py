"""The two measured systems, each complete: API, workers, broker, and a separate PostgreSQL server.

Both servers of PostgreSQL have the same settings, fsync and synchronous commits on. JetStream and Redis (append-only
file, fsync every second) both acknowledge before the disk has it.
"""

import asyncio
import hmac
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import sqlalchemy as sa
from asyncpg import DeadlockDetectedError
from sqlalchemy.ext.asyncio import create_async_engine

from bench.environment import ROOT, peer_python, redis
from bench.load import Client
from bench.processes import Group
from devtools.nats import NatsServer
from devtools.postgres import OWNER, RUNTIME, PostgresServer, create_database, url_as
from imago.ai.offline.models.store import ensure_classifier
from imago.core.jobs.stages import OPTIONAL_STAGES, server_workers
from imago.core.lanes.model import PREMIUM, STANDARD
from imago.core.outbox.subjects import EVENTS_STREAM, work_stream
from imago.imaging.ocr.trained_data import tessdata
from imago.nats.connection import NatsConnection
from imago.nats.embedded import free_port
from imago.settings import Settings

_ADMIN_KEY = "the administrator's key of the benchmark"
_LIMITS = {"requests_per_minute": 10_000_000, "burst": 1_000_000, "images": 10_000_000, "storage_bytes": 2**50}

# More memory than the default for both, so that a million rows are read from memory.
_POSTGRES = "-c shared_buffers=512MB -c max_wal_size=4GB"

# How often statements are retried after a deadlock with a worker.
_DEADLOCK_RETRIES = 5


def start(command: list[Any], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process with its output in a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(map(str, command)),
            env=dict(environment),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that we started, and its children if it leaves any."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        if child.is_running():
            child.kill()


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server reports that it is ready; raise AssertionError if it exits, or after five minutes."""
    deadline = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        assert process.poll() is None, f"it ended while starting, see {log}"
        assert time.monotonic() < deadline, f"it did not start in five minutes, see {log}"
        time.sleep(0.05)


def worker_kind(pid: int) -> str:
    """Return a worker's name in reports: Imago's by its stages, ARQ's by its program."""
    line = psutil.Process(pid).cmdline()
    return line[-1] if "imago.cli.main" in line else "arq"


async def execute(url: str, *statements: str, **values: object) -> None:
    """Run statements in one transaction; retry if it deadlocks with a worker's last transaction."""
    engine = create_async_engine(url)
    for retries_left in range(_DEADLOCK_RETRIES, -1, -1):
        try:
            async with engine.begin() as connection:
                for statement in statements:
                    if values:
                        await connection.execute(sa.text(statement), values)
                    else:
                        # Executed unparsed: JSON in a statement has colons.
                        await connection.exec_driver_sql(statement)
            break
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != DeadlockDetectedError.sqlstate or not retries_left:
                raise
    await engine.dispose()


class _Base:
    """The common parts of both systems: a folder, servers, an API and workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = ""
        self.postgres = PostgresServer(folder / "postgres", durable=True, options=_POSTGRES)
        self.api: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.storage = folder / "objects"
        self.environment: dict[str, str] = {}

    def start_api(self) -> None:
        """Start the API and its dependencies."""
        raise NotImplementedError

    def client(self) -> Client:
        """Return a client with the system's key."""
        return Client(self.url, self.key)

    def forget_images(self) -> None:
        """Delete all images, their files and their open work.

        Otherwise the workers would begin the next measurement with the uploads of one that had none.
        """
        self._forget_work()
        for folder in self.storage.iterdir():
            if folder.name != ".incoming":
                shutil.rmtree(folder, ignore_errors=True)

    def _forget_work(self) -> None:
        raise NotImplementedError

    def stop_workers(self) -> None:
        """Stop the workers."""
        for worker in self.workers:
            stop(worker)
        self.workers = []

    def stop_api(self) -> None:
        """Stop the API."""
        if self.api is not None:
            stop(self.api)
        self.api = None

    def restart_api(self, **environment: str) -> None:
        """Restart the API with changed settings, which are kept for later restarts."""
        self.stop_api()
        self.environment |= environment
        self.start_api()

    def _groups(self, broker: int) -> dict[str, Group]:
        assert self.api is not None
        return {
            "api": Group([self.api.pid]),
            "workers": Group(worker.pid for worker in self.workers),
            "database": Group([self.postgres.pid]),
            "broker": Group([broker]),
        }


class Imago(_Base):
    """Imago as the chart runs it: an API and a worker of each kind."""

    name = "imago"

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder)
        self.nats = NatsServer(folder / "nats")
        self.environment = {
            **os.environ,
            "ADMIN_API_KEY": _ADMIN_KEY,
            "API_KEY_PEPPER": secrets.token_urlsafe(),
            "SIGNED_URL_SECRET": secrets.token_urlsafe(),
            "AI_PROVIDER": "offline",
            "STORAGE_BACKEND": "local",
            "STORAGE_DIR": str(self.storage),
            "DATABASE_URL": f"{url_as(self.postgres.url, RUNTIME)}/imago",
            "NATS_URL": self.nats.url,
            "UPLOADS_PER_CLIENT": "1000",
            "UPLOAD_MB_PER_CLIENT": "100000",
            "MAX_UPLOAD_SIZE_MB": "60",
            # As for the peer: on a busy machine, 64 connections wait longer for each other than the default allows.
            "DATABASE_POOL_SIZE": "20",
            "DATABASE_TIMEOUT": "60",
            "PORT": str(self.port),
            **environment,
        }

    @property
    def database_url(self) -> str:
        """The superuser's URL of the database."""
        return f"{self.postgres.url}/imago"

    def start_api(self) -> None:
        """Start servers and API, and create the client if it is missing."""
        if not self.key:
            self.postgres.start()
            self.nats.start()
            asyncio.run(create_database(self.postgres.url, "imago"))
            owner = f"{url_as(self.postgres.url, OWNER)}/imago"
            self.run("migrate", DATABASE_URL=owner, DATABASE_RUNTIME_ROLE=RUNTIME)
            self.run("topology")
        log = self.folder / "api.log"
        self.api = start([sys.executable, "-m", "imago.cli.main", "api"], self.environment, log)
        wait_ready(self.url, self.api, log)
        if not self.key:
            self.key = asyncio.run(self.make_client("bench"))[1]

    def run(self, *arguments: str, **environment: str) -> None:
        """Run an `imago` command until it exits."""
        subprocess.run(
            [sys.executable, "-m", "imago.cli.main", *arguments],
            env={**self.environment, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def start_workers(self, kinds: tuple[str, ...] = server_workers(OPTIONAL_STAGES)) -> None:
        """Start a worker of each kind."""
        for kind in kinds:
            command = [sys.executable, "-m", "imago.cli.main", "worker", kind]
            self.workers.append(start(command, self.environment, self.folder / f"worker-{kind}.log"))

    def set_stages(self, *stages: str) -> None:
        """Restrict the client's pipeline to these stages and the thumbnail."""
        listed = ", ".join(f'"{stage}"' for stage in stages)
        asyncio.run(execute(self.database_url, f"UPDATE clients SET stages = '[{listed}]'"))
        # Longer than the API caches a client.
        time.sleep(3.2)

    def groups(self) -> dict[str, Group]:
        """Return the process group of each part."""
        return self._groups(self.nats.pid)

    def _forget_work(self) -> None:
        emptied = "TRUNCATE images, image_search, outbox, upload_intents, tombstones CASCADE"
        asyncio.run(execute(self.database_url, emptied, "UPDATE client_usage SET storage_bytes = 0, images = 0"))
        asyncio.run(self._purge_streams())

    async def _purge_streams(self) -> None:
        nats = NatsConnection(Settings(nats_url=(self.nats.url,)), name="bench")
        await nats.start()
        await nats.wait_connected(10)
        for stream in (work_stream(PREMIUM), work_stream(STANDARD), EVENTS_STREAM):
            await nats.js.purge_stream(stream)
        await nats.close()

    def stop(self) -> None:
        """Stop everything."""
        self.stop_workers()
        self.stop_api()
        self.nats.stop()
        self.postgres.stop()

    async def make_client(self, name: str) -> tuple[int, str]:
        """Create another client; return its id and its key."""
        body = {"name": name, "plan": "premium", "limits": _LIMITS}
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": _ADMIN_KEY}) as session,
            session.post(f"{self.url}/auth/clients", json=body) as answer,
        ):
            made = await answer.json()
            assert answer.status == 201, made
            return int(made["id"]), str(made["api_key"])


class Peer(_Base):
    """The peer: uvicorn and ARQ."""

    name = "peer"

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder)
        self._pepper = secrets.token_urlsafe()
        self._redis_port = free_port()
        self._redis: subprocess.Popen[bytes] | None = None
        self.python = peer_python()
        self._bin = self.python.parent
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PEER_DATABASE_URL": f"{url_as(self.postgres.url, OWNER)}/peer",
            "PEER_REDIS_PORT": str(self._redis_port),
            "PEER_STORAGE": str(self.storage),
            "PEER_PEPPER": self._pepper,
            "PEER_MODEL": str(ensure_classifier(None)),
            "PEER_TESSDATA": str(tessdata(None)),
            "PEER_MAX_UPLOAD_MB": "60",
            "OMP_THREAD_LIMIT": "1",
            **environment,
        }

    def start_api(self) -> None:
        """Start servers and API, and create the client if it is missing."""
        if not self.key:
            self.postgres.start()
            asyncio.run(create_database(self.postgres.url, "peer"))
            self._start_redis()
        log = self.folder / "api.log"
        command = [
            self._bin / "uvicorn",
            "bench.peer.app:app",
            "--port",
            self.port,
            "--loop",
            "uvloop",
            "--http",
            "httptools",
        ]
        self.api = start(command, self.environment, log)
        wait_ready(self.url, self.api, log)
        if not self.key:
            key = secrets.token_urlsafe(32)
            asyncio.run(
                execute(
                    f"{self.postgres.url}/peer",
                    "INSERT INTO clients (name, key_digest, active, requests_per_minute, storage_limit, images_limit,"
                    " storage_used, images_used) VALUES ('bench', :digest, true, :requests_per_minute, :storage_bytes,"
                    " :images, 0, 0)",
                    digest=hmac.digest(self._pepper.encode(), key.encode(), "sha256"),
                    **{name: value for name, value in _LIMITS.items() if name != "burst"},
                )
            )
            self.key = key

    def start_workers(self, kinds: tuple[str, ...] = ()) -> None:
        """Start a worker; an ARQ worker serves all stages."""
        command = [self._bin / "arq", "bench.peer.worker.WorkerSettings"]
        self.workers.append(start(command, self.environment, self.folder / "worker.log"))

    def groups(self) -> dict[str, Group]:
        """Return the process group of each part."""
        assert self._redis is not None
        return self._groups(self._redis.pid)

    def _forget_work(self) -> None:
        asyncio.run(
            execute(
                self.database_url,
                "TRUNCATE images CASCADE",
                "UPDATE clients SET storage_used = 0, images_used = 0",
            )
        )
        with socket.create_connection(("127.0.0.1", self._redis_port), timeout=30) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(64).startswith(b"+OK"), "Redis did not forget its jobs"

    def stop(self) -> None:
        """Stop everything."""
        self.stop_workers()
        self.stop_api()
        if self._redis is not None:
            stop(self._redis)
        self.postgres.stop()

    @property
    def database_url(self) -> str:
        """The superuser's URL of the database."""
        return f"{self.postgres.url}/peer"

    def _start_redis(self) -> None:
        server = redis()
        folder = self.folder / "redis"
        folder.mkdir()
        options = [
            "--port",
            self._redis_port,
            "--bind",
            "127.0.0.1",
            "--dir",
            folder,
            "--save",
            "",
            "--appendonly",
            "yes",
        ]
        self._redis = start(
            [server.program, *options, "--appendfsync", "everysec"], server.environment(), self.folder / "redis.log"
        )
