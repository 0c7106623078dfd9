"""What a vision provider is given, and what it must do."""

from dataclasses import dataclass
from typing import Protocol

from imago.core.images.results import ExifResult, OcrReading, VisionResult


@dataclass(frozen=True)
class ColourShare:
    """A colour of the image (sRGB, 0..255 each) and the share of its pixels, 0..1."""

    red: int
    green: int
    blue: int
    share: float


@dataclass(frozen=True)
class VisionInput:
    """An image made ready for a provider: an upright sRGB JPEG of ours, the original's upright size, and its context.

    The JPEG was encoded by us from decoded pixels, so a provider may decode it without care. `language` is the
    ISO 639-1 code of the description that is wanted.
    """

    jpeg: bytes
    width: int
    height: int
    colours: tuple[ColourShare, ...]
    exif: ExifResult | None
    language: str


@dataclass(frozen=True)
class PageInput:
    """A page made ready for a provider that reads text: a JPEG of ours, and the languages to expect (ISO 639-2)."""

    jpeg: bytes
    languages: tuple[str, ...]


class VisionProvider(Protocol):
    """Describes images; raises a `StageFailure` of `domain.failures` where it can't."""

    @property
    def name(self) -> str:
        """The provider's name as settings and metrics know it."""
        ...

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe one image."""
        ...


class PageReader(Protocol):
    """Reads the text in images; raises a `StageFailure` where it can't."""

    async def read_text(self, page: PageInput) -> OcrReading:
        """Read one page."""
        ...
