"""What the benchmark needs beside the project's own environment: the peer's packages, and a Redis server.

Both are made once, under build/bench, and made anew when the lock file changes. Redis comes as Debian's packages,
unpacked and not installed, so that no service is started by it.
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
    """The benchmark can't run on this machine; the text is one line for a person."""


@dataclass(frozen=True)
class Redis:
    """A Redis server's program, and where its libraries lie if the system has them not."""

    program: Path
    libraries: Path | None

    def environment(self) -> dict[str, str]:
        """Return the environment to start it in."""
        if self.libraries is None:
            return dict(os.environ)
        return {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}


def peer_python() -> Path:
    """Return the Python of the peer's environment, making it first where it is missing or out of date."""
    folder = FOLDER / "peer"
    stamp, wanted = folder / ".made-from", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        print("bench: installing the peer's packages", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", LOCK], check=True)
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def redis() -> Redis:
    """Return a Redis server: the system's, else Debian's unpacked; raise Missing."""
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
            raise Missing(f"Debian's redis-server can't be had: {error}; install it") from error
    libraries = next((path.parent for path in (folder / "usr" / "lib").rglob("libjemalloc.so.2")), None)
    return Redis(program, libraries)
