"""A complete installation of real processes that tests kill, freeze, disconnect and restart."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from devtools.nats import NatsServer
from devtools.postgres import OWNER, RUNTIME, PostgresServer, create_database, url_as
from devtools.s3 import S3Server, make_bucket
from imago.core.jobs.stages import OPTIONAL_STAGES, server_workers
from imago.nats.embedded import free_port
from tests.faults.proxy import Proxy

ADMIN_KEY = "the administrator's key of the fault tests"
OPERATOR_KEY = "the operator's key of the fault tests"

# Shorter than in production: deadlines that are promised in heartbeats are measured in heartbeats.
HEARTBEAT = 1.0
ACK_WAIT = 3 * HEARTBEAT

BASE_ENVIRONMENT = {
    "ADMIN_API_KEY": ADMIN_KEY,
    "OPERATOR_API_KEY": OPERATOR_KEY,
    "JWT_SECRET_KEY": "the tokens' secret of the fault tests",
    "API_KEY_PEPPER": "pepper of the fault tests",
    "SIGNED_URL_SECRET": "secret of the fault tests",
    "AI_PROVIDER": "offline",
    "HEARTBEAT": str(HEARTBEAT),
    "RELAY_INTERVAL": "0.5",
    "RECONCILE_INTERVAL": "2",
    "SWEEP_INTERVAL": "1",
    "REPROCESS_INTERVAL": "0.5",
    "RETRY_BASE": "0.2",
    "RETRY_CAP": "2",
    "UPLOAD_TOTAL_TIMEOUT": "8",
    "INTENT_TTL": "9",
    "IDEMPOTENCY_LEASE": "3",
    "NATS_TIMEOUT": "2",
    "DATABASE_TIMEOUT": "5",
    "SHUTDOWN_TIMEOUT": "8",
    "LOG_LEVEL": "info",
    "WORKER_LANES": "premium,standard,*",
    # One client of the tests sends as much as hundreds of real ones.
    "UPLOADS_PER_CLIENT": "1000",
    "UPLOAD_MB_PER_CLIENT": "100000",
    "ANONYMOUS_BURST": "100000",
    "FILES_BURST": "100000",
}


class Process:
    """One process of Imago."""

    def __init__(
        self, name: str, arguments: list[str], environment: dict[str, str], log: Path, port: int | None
    ) -> None:
        self.name = name
        self.port = port
        self.log = log
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.deaths = 0

    @property
    def running(self) -> bool:
        """Whether the process runs (or is frozen)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """The base URL of its HTTP server."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True, **environment: str) -> None:
        """Start the process with additional environment variables; for an API, wait until it is ready."""
        assert not self.running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "imago.cli.main", *self._arguments],
                env={**self._environment, **environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                # A developer's `.env` must not apply to the process.
                cwd=self.log.parent,
            )
        if wait and self.port is not None:
            self.wait_ready()

    def wait_ready(self, timeout: float = 90) -> None:
        """Wait until the API reports that it is ready."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/health/ready", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            assert self.running, f"{self.name} ended while starting, see {self.log}"
            assert time.monotonic() < deadline, f"{self.name} was not ready in {timeout} s, see {self.log}"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the process; its children die with it."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()
            self.deaths += 1

    def wait_death(self, timeout: float = 20) -> None:
        """Wait until a failpoint has killed the process."""
        assert self._process is not None
        code = self._process.wait(timeout)
        assert code == -signal.SIGKILL, f"{self.name} ended with {code} instead of being killed, see {self.log}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait_frozen(self, timeout: float = 20) -> None:
        """Wait until the process has frozen itself at a failpoint."""
        deadline = time.monotonic() + timeout
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, f"{self.name} did not freeze"
            time.sleep(0.02)

    def stop(self, timeout: float = 60) -> float:
        """Terminate the process, and return how many seconds it took to end."""
        if self._process is None or not self.running:
            return 0.0
        began = time.monotonic()
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end {timeout} s after SIGTERM, see {self.log}") from None
        return time.monotonic() - began

    def peak_memory(self) -> int:
        """The peak resident memory of the process, without its children, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class Platform:
    """PostgreSQL, NATS, storage, two API processes and the three workers."""

    def __init__(
        self, directory: Path, *, s3: bool = False, apis: int = 2, migrated: bool = True, **environment: str
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.postgres = PostgresServer(directory / "postgres")
        self.nats = NatsServer(directory / "nats")
        self.s3 = S3Server(directory / "s3") if s3 else None
        self.objects = directory / "objects"
        self._servers = contextlib.ExitStack()
        try:
            self._start_servers()
            self.postgres_proxy = self._proxy(self.postgres.port)
            self.nats_proxy = self._proxy(self.nats.port)
            self.s3_proxy = self._proxy(self.s3.port) if self.s3 else None
            _apart(self._prepare())
            self._describe(apis, environment)
            if migrated:
                self.run("migrate", DATABASE_URL=self.owner_url, DATABASE_RUNTIME_ROLE=RUNTIME)
                self.run("topology")
        except BaseException:
            self._servers.close()
            raise

    def _start_servers(self) -> None:
        for server in (self.postgres, self.nats, self.s3):
            if server is not None:
                server.start()
                self._servers.callback(server.stop)

    def _proxy(self, port: int) -> Proxy:
        proxy = Proxy(port)
        self._servers.callback(proxy.close)
        return proxy

    def _describe(self, apis: int, environment: Mapping[str, str]) -> None:
        storage = {"STORAGE_BACKEND": "local", "STORAGE_DIR": str(self.objects)}
        if self.s3 is not None and self.s3_proxy is not None:
            storage = {**self.s3.environment(), "S3_ENDPOINT_URL": f"http://127.0.0.1:{self.s3_proxy.port}"}
        self.environment = {
            **os.environ,
            **BASE_ENVIRONMENT,
            **storage,
            "DATABASE_URL": f"{url_as(self.postgres.url_by(self.postgres_proxy.port), RUNTIME)}/imago",
            "NATS_URL": f"nats://127.0.0.1:{self.nats_proxy.port}",
            **environment,
        }
        self.apis = [self._api(index) for index in range(apis)]
        self.workers = {kind: self._worker(kind) for kind in server_workers(OPTIONAL_STAGES)}

    @property
    def processes(self) -> list[Process]:
        """All Imago processes."""
        return [*self.apis, *self.workers.values()]

    @property
    def database_url(self) -> str:
        """The URL of the database, bypassing the proxy."""
        return f"{self.postgres.url}/imago"

    @property
    def owner_url(self) -> str:
        """The URL of the database with the role that migrates."""
        return f"{url_as(self.postgres.url, OWNER)}/imago"

    def start(self, **environment: str) -> None:
        """Start the processes that do not run."""
        for process in self.processes:
            if not process.running:
                process.start(wait=False, **environment)
        for api in self.apis:
            api.wait_ready()

    def restart(self, **environment: str) -> None:
        """Restart all Imago processes with additional environment variables."""
        with ThreadPoolExecutor(len(self.processes)) as pool:
            list(pool.map(Process.stop, self.processes))
        self.start(**environment)

    def extra_api(self) -> Process:
        """Return another API process on a free port, not started yet."""
        port = free_port()
        environment = {**self.environment, "PORT": str(port), "HOST": "127.0.0.1"}
        return Process(f"api-{port}", ["api"], environment, self.directory / f"api-{port}.log", port)

    def extra_worker(self, kind: str) -> Process:
        """Return another worker of a kind, not started yet."""
        return self._worker(kind, suffix="-extra")

    def run(self, *arguments: str, **environment: str) -> None:
        """Run an `imago` command to its end."""
        assert self.begin(*arguments, **environment).wait(300) == 0, arguments

    def begin(self, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start an `imago` command."""
        command = [sys.executable, "-m", "imago.cli.main", *arguments]
        return subprocess.Popen(command, env={**self.environment, **environment}, stdout=subprocess.DEVNULL)

    def wipe_nats(self) -> None:
        """Delete the store of NATS, and start it empty."""
        self.nats.kill()
        shutil.rmtree(self.directory / "nats" / "store")
        self.nats.start()

    def files(self) -> list[str]:
        """The files of local storage, including unfinished writes, as paths relative to its root."""
        # Unlike rglob, walk tolerates folders that the object cleaner removes meanwhile.
        walked = os.walk(self.objects)
        return sorted(
            (Path(folder) / name).relative_to(self.objects).as_posix() for folder, _, names in walked for name in names
        )

    def query(self, statement: str, **values: object) -> list[Mapping[str, Any]]:
        """Query the database directly."""

        async def ask() -> list[Mapping[str, Any]]:
            engine = create_async_engine(self.database_url)
            try:
                async with engine.connect() as connection:
                    return [dict(row._mapping) for row in await connection.execute(sa.text(statement), values)]
            finally:
                await engine.dispose()

        return _apart(ask())

    def scalar(self, statement: str, **values: object) -> Any:
        """Query the database for one value."""
        return next(iter(self.query(statement, **values)[0].values()))

    def locks(self) -> list[Mapping[str, Any]]:
        """The sessions that hold transactions open or wait for one."""
        return self.query(
            "SELECT pid, state, wait_event, pg_blocking_pids(pid) AS blocked_by, now() - state_change AS since,"
            " left(query, 80) AS query FROM pg_stat_activity WHERE datname = 'imago' AND state <> 'idle'"
        )

    def close(self) -> None:
        """Stop everything."""
        for process in self.processes:
            with contextlib.suppress(AssertionError):
                process.stop()
        self._servers.close()

    async def _prepare(self) -> None:
        await create_database(self.postgres.url, "imago")
        if self.s3 is not None:
            await make_bucket(self.s3.url)

    def _api(self, index: int) -> Process:
        port = free_port()
        environment = {**self.environment, "PORT": str(port), "HOST": "127.0.0.1"}
        return Process(f"api-{index}", ["api"], environment, self.directory / f"api-{index}.log", port)

    def _worker(self, kind: str, suffix: str = "") -> Process:
        name = f"worker-{kind}{suffix}"
        return Process(name, ["worker", kind], self.environment, self.directory / f"{name}.log", None)


def _apart(work: Any) -> Any:
    """Run a coroutine in another thread, whether or not a loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
