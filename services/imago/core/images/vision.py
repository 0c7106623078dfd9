"""The inputs of vision and OCR providers, and the protocols that the providers implement."""

from dataclasses import dataclass
from typing import Protocol

from imago.core.images.recognition.model import Recognition
from imago.core.images.results import ExifResult, OcrReading, VisionResult


@dataclass(frozen=True)
class VisionInput:
    """An image prepared for a provider: an upright sRGB JPEG, the upright size of the original, and its context.

    Imago encoded the JPEG from decoded pixels, so a provider may decode it outside the sandbox. `language` is the
    ISO 639-1 code of the language to describe the image in.
    """

    jpeg: bytes
    width: int
    height: int
    exif: ExifResult | None
    language: str
    recognition: Recognition | None = None
    """What the offline recognition found; None if its model is not installed."""


@dataclass(frozen=True)
class OcrInput:
    """A page prepared for a provider: a JPEG that Imago encoded, and the expected languages of its text (ISO 639-2)."""

    jpeg: bytes
    languages: tuple[str, ...]


class Recognizer(Protocol):
    """Recognizes what images show, offline."""

    async def recognize(self, jpeg: bytes) -> Recognition | None:
        """Recognize what a JPEG of `VisionInput` shows; return None if the model is not installed."""
        ...


class VisionProvider(Protocol):
    """Describes images. Raises a `StageFailure` of `core.jobs.failures` if it can't."""

    @property
    def name(self) -> str:
        """The provider's name in settings and metrics."""
        ...

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe one image."""
        ...


class OcrProvider(Protocol):
    """Reads the text in images. Raises a `StageFailure` if it can't."""

    async def read_text(self, page: OcrInput) -> OcrReading:
        """Read one page."""
        ...
