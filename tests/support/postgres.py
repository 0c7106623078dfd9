"""A PostgreSQL server of the tests' own: initialised in a temporary folder, on a free port of 127.0.0.1."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imago.bus.embedded import free_port


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("no PostgreSQL server is installed (`make setup` installs Debian's)")
    return Path(on_path).parent


@contextmanager
def postgres_server(directory: Path) -> Iterator[str]:
    """Run a server and give the URL of its superuser's connection, without a database's name at its end."""
    binaries, data, port = _binaries(), directory / "data", free_port()
    as_root = os.geteuid() == 0
    prefix = ["runuser", "-u", "postgres", "--"] if as_root else []
    directory.mkdir(parents=True, exist_ok=True)
    if as_root:
        # The server refuses to run as root; the folders above must let its user through.
        shutil.chown(directory, "postgres")
        for parent in directory.parents:
            if parent.owner() == "root" and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    user = "postgres" if as_root else getpass.getuser()
    run = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": "/"}
    subprocess.run([*prefix, binaries / "initdb", "-D", data, "-A", "trust", "-U", user, "--no-sync"], **run)
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k '' -c fsync=off -c max_connections=200"
    start = [*prefix, binaries / "pg_ctl", "-D", data, "-o", options, "-l", directory / "log", "-w", "start"]
    subprocess.run(start, **{**run, "stderr": subprocess.DEVNULL})
    try:
        yield f"postgresql+asyncpg://{user}@127.0.0.1:{port}"
    finally:
        subprocess.run([*prefix, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], **run)
