"""The benchmark's additional dependencies: the peer's Python packages and a Redis server.

Both are installed once under build/bench, and again when the lock file changes. Redis comes from Debian's packages,
which are unpacked and not installed, so that no service starts.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "bench"
LOCK = ROOT / "requirements" / "bench.lock"

_REDIS_PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")


class Missing(Exception):
    """The benchmark can't run on this machine; the message is one line for the user."""


@dataclass(frozen=True)
class Redis:
    """A Redis server's program, and the directory of its libraries if they are not installed."""

    program: Path
    libraries: Path | None

    def environment(self) -> dict[str, str]:
        """Return the environment variables to start the server with."""
        if self.libraries is None:
            return dict(os.environ)
        return {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}


def peer_python() -> Path:
    """Return the Python of the peer's environment, which is created first if it is missing or out of date."""
    folder = FOLDER / "peer"
    stamp, digest = folder / ".made-from", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        print("bench: installing the peer's packages", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", LOCK], check=True)
        stamp.write_text(digest)
    return folder / "bin" / "python"


def redis() -> Redis:
    """Return the installed Redis server, or else one unpacked from Debian's packages; raise Missing."""
    found = shutil.which("redis-server")
    if found is not None:
        return Redis(Path(found), None)
    folder = FOLDER / "redis"
    program = folder / "usr" / "bin" / "redis-server"
    if not program.exists():
        if shutil.which("apt-get") is None:
            raise Missing("the peer needs redis-server; install it")
        packages = folder / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                ["apt-get", "download", "-qq", *_REDIS_PACKAGES], cwd=packages, check=True, stderr=subprocess.PIPE
            )
            for package in packages.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        except subprocess.CalledProcessError as error:
            raise Missing(f"can't download Debian's redis-server: {error}; install it") from error
    libraries = next((path.parent for path in (folder / "usr" / "lib").rglob("libjemalloc.so.2")), None)
    return Redis(program, libraries)
