"""A PostgreSQL server for tests, initialized in a temporary directory, on a free port of 127.0.0.1."""

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from imago.nats.embedded import free_port


def programs() -> Path:
    """Return the folder of PostgreSQL's server programs; skip the test if it is missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("no PostgreSQL server is installed (`make setup` installs Debian's)")
    return Path(on_path).parent


# As in production: one role owns and migrates the tables; another one reads and writes them under row-level security.
OWNER = "imago_owner"
RUNTIME = "imago_app"


def url_as(url: str, role: str) -> str:
    """Return a server's URL with another role; the test servers use `trust` authentication."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{role}@{rest.partition('@')[2]}"


async def create_database(url: str, name: str) -> None:
    """Create a database owned by `OWNER`, and both roles if they do not exist."""
    engine = create_async_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for role in (OWNER, RUNTIME):
            if not await connection.scalar(sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :r"), {"r": role}):
                await connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
        await connection.execute(sa.text(f"CREATE DATABASE {name} OWNER {OWNER}"))
    await engine.dispose()


class PostgresServer:
    """A server that can be killed and restarted with its data.

    Unless it is `durable`, fsync is off, because power failures are not tested. `options` are extra server options.
    It accepts all connections without a password, and listens only on 127.0.0.1 unless another address is given.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = False,
        options: str = "",
        address: str = "127.0.0.1",
        network: str = "",
    ) -> None:
        self._options = f"{'' if durable else '-c fsync=off '}{options}"
        self._binaries = programs()
        self._directory = directory
        self._data = directory / "data"
        self._address = address
        self.port = free_port()
        as_root = os.geteuid() == 0
        self._prefix = ["runuser", "-u", "postgres", "--"] if as_root else []
        self._user = "postgres" if as_root else getpass.getuser()
        directory.mkdir(parents=True, exist_ok=True)
        if as_root:
            # The server refuses to run as root, so its user needs access to the parent directories.
            shutil.chown(directory, "postgres")
            for parent in directory.parents:
                if parent.owner() == "root" and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", self._user, "--no-sync")
        if network:
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {address}/32 trust\nhost all all {network} trust\n")

    @property
    def url(self) -> str:
        """The superuser's URL, without a database name."""
        return self.url_by(self.port)

    def url_by(self, port: int) -> str:
        """Return the same URL with another port, such as a proxy's."""
        return f"postgresql+asyncpg://{self._user}@{self._address}:{port}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = f"-c listen_addresses={self._address} -p {self.port} -k '' -c max_connections=200 {self._options}"
        log = self._directory / "log"
        deadline = time.monotonic() + 90
        while True:
            try:
                self._run("pg_ctl", "-D", self._data, "-o", options, "-l", log, "-w", "start")
                return
            except subprocess.CalledProcessError:
                # After a kill, some of its processes may still be exiting.
                last_words = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                assert time.monotonic() < deadline, f"PostgreSQL did not start; its log ends:\n{last_words}"
                time.sleep(0.2)

    def kill(self) -> None:
        """Kill the server and all its processes, as the OOM killer does."""
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.pid)
            # Stopped first: a process that it started between listing and killing would keep the data directory locked.
            server.suspend()
            family = [server, *server.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(family, timeout=10)

    @property
    def running(self) -> bool:
        """Whether the server is running."""
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return False

    @property
    def pid(self) -> int:
        """The server's process id; its sessions are child processes."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        """Stop the server."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [*self._prefix, self._binaries / program, *map(str, arguments)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )


@contextmanager
def postgres_server(directory: Path) -> Iterator[str]:
    """Run a server and yield its superuser's URL, without a database name."""
    server = PostgresServer(directory)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
