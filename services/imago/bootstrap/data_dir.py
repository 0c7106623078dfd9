"""The data directory of `imago dev`: its lock, its permissions, and the files that other commands read.

Nobody else may read it: it has clients' images, keys and logs.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from imago.runtime.startup import StartupError
from imago.telemetry.metrics import clear_directory

DEFAULT_CLIENT = "default-client.json"
SECRETS = "secrets.json"

_ENTRIES = frozenset({DEFAULT_CLIENT, SECRETS, "imago.lock", "logs", "metrics", "nats", "objects"})

# Linux keeps its files in memory.
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # What is created there is checked.

_GENERATED = ("ADMIN_API_KEY", "API_KEY_PEPPER", "SIGNED_URL_SECRET", "JWT_SECRET_KEY")


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Create the data directory, make it private and keep other instances out of it; raise StartupError."""
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "imago.lock").open("w")
        _make_private(data_dir)
    except OSError as error:
        raise StartupError(f"cannot write to the data directory {data_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(f"the data directory {data_dir} is in use by another `imago dev`") from None
        yield


def _make_private(data_dir: Path) -> None:
    """Take away the access of others to files that an earlier version created with the default umask."""
    entries = set(data_dir.iterdir())
    ours = {path for path in entries if path.name in _ENTRIES or path.name.startswith("imago.db")}
    # The directory itself can be one that the user shares with other things.
    for path in (*ours, *(data_dir / "logs").iterdir(), *([data_dir] if ours == entries else [])):
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o700 if path.is_dir() else 0o600)


@contextlib.contextmanager
def metrics_directory(data_dir: Path) -> Iterator[Path]:
    """Provide an empty directory for the files in which processes share their metrics, in memory where possible.

    The files are mapped into memory, and a write to a mapped file on a full disk kills the process (SIGBUS).
    """
    directory = _memory_directory(data_dir) or data_dir / "metrics"
    clear_directory(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _memory_directory(data_dir: Path) -> Path | None:
    # Always the same for a data directory, so that a start after a crash finds and empties it.
    directory = _SHARED_MEMORY / f"imago-metrics-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError:
        return None
    # Anybody may create entries there.
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return directory if private else None


def ensure_secrets(data_dir: Path) -> dict[str, str]:
    """Return the secrets by the names of their settings, generating those that are missing; raise StartupError."""
    path = data_dir / SECRETS
    try:
        saved: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        saved = {}
    except (OSError, ValueError) as error:
        raise StartupError(f"cannot read {path}") from error
    missing = {name: secrets.token_urlsafe(32) for name in _GENERATED if name not in saved}
    if missing:
        saved |= missing
        write_private(path, saved)
    return saved


def read_json(path: Path) -> dict[str, str]:
    """Return the object in a file; an empty one if the file is missing or unreadable."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_private(path: Path, data: dict[str, str]) -> None:
    """Write a file atomically, readable only by its owner."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(json.dumps(data, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
