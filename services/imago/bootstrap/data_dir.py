"""The data directory of `imago dev`: its lock, and the files that other commands read."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from imago.startup import StartupError

DEFAULT_CLIENT = "default-client.json"
SECRETS = "secrets.json"

_GENERATED = ("ADMIN_API_KEY", "API_KEY_PEPPER", "SIGNED_URL_SECRET", "JWT_SECRET_KEY")


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Create the data directory and keep other instances out of it; raise StartupError."""
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "imago.lock").open("w")
    except OSError as error:
        raise StartupError(f"cannot write to the data directory {data_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(f"the data directory {data_dir} is in use by another `imago dev`") from None
        yield


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
