"""The directory of an embedding model (`EMBED_MODEL_DIR`): its configuration, and the checks of its files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imago.runtime.startup import StartupError

CONFIG, VISUAL, TEXTUAL, TOKENIZER = "config.json", "visual.onnx", "textual.onnx", "tokenizer.json"

_CHUNK = 1 << 20

_Channels = Annotated[tuple[float, float, float], Field(description="red, green, blue")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelConfig(BaseModel):
    """The contents of `config.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    dims: int = Field(ge=8, le=2048)
    """The components of a vector."""
    image_side: int = Field(ge=16, le=1024)
    """The sides of the square that `visual.onnx` takes, in pixels."""
    image_fit: Literal["stretch", "crop"]
    """How an image becomes a square: distorted as for SigLIP, or its centre as for CLIP."""
    image_mean: _Channels
    """Subtracted from the channels, which are 0 to 1."""
    image_std: _Channels
    """By which they are divided then."""
    context_length: int = Field(ge=4, le=512)
    """The tokens that `textual.onnx` takes: shorter texts are padded, longer ones are cut."""
    pad_id: int = Field(ge=0)
    min_margin: float = Field(0.01, ge=-1, le=1)
    """How much nearer an image must be to the query than to any text that no picture shows, as a cosine."""
    sha256: dict[str, _Sha256]
    """The checksums of the other files, by name."""


@dataclass(frozen=True)
class EmbeddingModel:
    """A model whose configuration was read. `fingerprint` changes with whatever changes vectors."""

    directory: Path
    config: ModelConfig

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all parts of the configuration, checksums included, that vectors depend on."""
        parts = self.config.model_dump_json(exclude={"name", "min_margin"})
        return hashlib.sha256(parts.encode()).hexdigest()

    def arguments(self) -> dict[str, Any]:
        """Return the model as an argument of a task in a child process."""
        return {"directory": str(self.directory), "config": self.config.model_dump(mode="json")}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> "EmbeddingModel":
        """Return the model from its arguments."""
        return cls(Path(arguments["directory"]), ModelConfig(**arguments["config"]))


def load_model(directory: Path, *, checked: Sequence[str]) -> EmbeddingModel:
    """Read the configuration of a model, and compare the checksums of the files `checked`; raise StartupError.

    Only the files that a process opens need to be compared: they may have more than a gigabyte.
    """
    model = EmbeddingModel(directory, _config(directory))
    for name in (VISUAL, TEXTUAL, TOKENIZER):
        if not (directory / name).is_file():
            raise _error(f"{directory / name}: there is no such file")
        if name not in model.config.sha256:
            raise _error(f"{directory / CONFIG}: sha256 lacks {name}")
    for name in checked:
        if _checksum(directory / name) != model.config.sha256[name]:
            raise _error(f"{directory / name}: its checksum is not that of {CONFIG}")
    return model


def _config(directory: Path) -> ModelConfig:
    path = directory / CONFIG
    try:
        return ModelConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _error(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _error(": ".join(part for part in (str(path), where, first["msg"].splitlines()[0]) if part)) from None


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise _error(f"{path}: {error.strerror}") from None
    return digest.hexdigest()


def _error(reason: str) -> StartupError:
    return StartupError(f"EMBED_MODEL_DIR: {reason}")
