"""The interfaces of vision and OCR providers."""

from dataclasses import dataclass
from typing import Protocol

from imago.core.images.results import ExifResult, OcrReading, VisionResult


@dataclass(frozen=True)
class ColourShare:
    """A colour of the image (sRGB, 0..255 each) and its share of the pixels (0..1)."""

    red: int
    green: int
    blue: int
    share: float


@dataclass(frozen=True)
class VisionInput:
    """An image for a provider: an upright sRGB JPEG, the original's upright size, and context.

    Imago encoded the JPEG from decoded pixels, so it is safe to decode. The description is to be in `language`
    (ISO 639-1).
    """

    jpeg: bytes
    width: int
    height: int
    colours: tuple[ColourShare, ...]
    exif: ExifResult | None
    language: str


@dataclass(frozen=True)
class PageInput:
    """A page for an OCR provider: a JPEG that Imago encoded, and the expected languages (ISO 639-2)."""

    jpeg: bytes
    languages: tuple[str, ...]


class VisionProvider(Protocol):
    """Describes images; raises a `StageFailure` of `core.jobs.failures` on failure."""

    @property
    def name(self) -> str:
        """The provider's name in settings and metrics."""
        ...

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe one image."""
        ...


class PageReader(Protocol):
    """Recognizes text in images; raises a `StageFailure` on failure."""

    async def read_text(self, page: PageInput) -> OcrReading:
        """Recognize the text of one page."""
        ...
