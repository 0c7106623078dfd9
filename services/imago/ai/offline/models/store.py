"""The directory of models: one folder for each, with a manifest of checksums."""

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from imago.ai.offline.models import lite0, nanodet
from imago.runtime.startup import StartupError, models_directory

# The folder's name changes with the graph, because versions of Imago share the user's cache.
_CLASSIFIER = f"{lite0.NAME}.2"

_DETECTOR = nanodet.NAME

_FILE = "model.onnx"


def ensure_classifier(directory: Path | None) -> Path:
    """Return the verified classifier, and build it first if it is missing or damaged.

    Processes may call it concurrently. Raises StartupError.
    """
    return _ensure((directory or models_directory()) / _CLASSIFIER, lite0.build)


def ensure_detector(directory: Path | None) -> Path:
    """Return the verified detector, and download and build it first if it is missing or damaged.

    Raises StartupError.
    """
    return _ensure((directory or models_directory()) / _DETECTOR, nanodet.build)


def find_detector(directory: Path | None) -> Path | None:
    """Return the verified detector, or None if it isn't installed: nothing is downloaded while images are processed."""
    folder = (directory or models_directory()) / _DETECTOR
    return folder / _FILE if is_valid(folder) else None


def _ensure(folder: Path, build: Callable[[], bytes]) -> Path:
    if not is_valid(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not is_valid(folder):
                    _store(folder, build())
        except OSError as error:
            raise StartupError(f"cannot write the vision model to {folder}: {error.strerror}") from error
    return folder / _FILE


def is_valid(folder: Path) -> bool:
    """Return whether the model in a folder has the checksum of its manifest."""
    try:
        manifest: dict[str, str] = json.loads((folder / "manifest.json").read_text())
        return manifest == {_FILE: hashlib.sha256((folder / _FILE).read_bytes()).hexdigest()}
    except (OSError, ValueError):
        return False


def _store(folder: Path, model: bytes) -> None:
    _write(folder / _FILE, model)
    _write(folder / "manifest.json", json.dumps({_FILE: hashlib.sha256(model).hexdigest()}).encode())


def _write(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    # Only the owner can read a temporary file, but a container image is built and run by different users.
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
