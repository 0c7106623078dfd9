"""Prepare images for providers: small upright JPEGs of pictures, and of pages for OCR."""

from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from imago.imaging.files import TaskFile, reading
from imago.imaging.pixels.colour import flatten
from imago.imaging.pixels.decode import decode_image

_JPEG_QUALITY = 85


@dataclass(frozen=True)
class PreparedImage:
    """The upright size of the original in pixels, and whether its file ends before its pixels do."""

    width: int
    height: int
    truncated: bool

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that a child process sends."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PreparedImage":
        """Return the prepared image from its JSON."""
        return cls(**data)


def prepare_for_vision(source: TaskFile, target: TaskFile, *, max_side: int, max_pixels: int) -> PreparedImage:
    """Write an upright sRGB JPEG with a longest side of at most `max_side` pixels, transparency on white.

    Raises PermanentFailure if the image can't be decoded.
    """
    decoded = decode_image(source, max_side=max_side, max_pixels=max_pixels)
    small = flatten(decoded.image)
    clean = Image.new("RGB", small.size)
    clean.paste(small)
    clean.save(target, "JPEG", quality=_JPEG_QUALITY)
    return PreparedImage(decoded.width, decoded.height, decoded.truncated)


def page_for_provider(page: TaskFile, target: TaskFile, *, max_side: int) -> None:
    """Write a page of `read_document` as a JPEG with a longest side of at most `max_side` pixels."""
    with reading(page) as file, Image.open(file, formats=["PPM"]) as opened:
        opened.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        opened.save(target, "JPEG", quality=_JPEG_QUALITY)
