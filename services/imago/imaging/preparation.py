"""Prepare images for providers: small upright JPEGs of pictures, and of pages for OCR."""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from imago.core.images.vision import ColourShare
from imago.imaging.files import TaskFile, reading
from imago.imaging.pixels.colour import flatten
from imago.imaging.pixels.decode import decode_image

_JPEG_QUALITY = 85
_COLOURS = 5
_COLOUR_SIDE = 64


@dataclass(frozen=True)
class PreparedImage:
    """The upright size of the original in pixels, its main colours, and whether its file ends before its pixels do."""

    width: int
    height: int
    colours: tuple[ColourShare, ...]
    truncated: bool

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that a child process sends."""
        return {
            "width": self.width,
            "height": self.height,
            "colours": [[colour.red, colour.green, colour.blue, colour.share] for colour in self.colours],
            "truncated": self.truncated,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PreparedImage":
        """Return the prepared image from its JSON."""
        colours = tuple(ColourShare(*colour) for colour in data["colours"])
        return cls(data["width"], data["height"], colours, data["truncated"])


def prepare_for_vision(source: TaskFile, target: TaskFile, *, max_side: int, max_pixels: int) -> PreparedImage:
    """Write an upright sRGB JPEG with a longest side of at most `max_side` pixels, transparency on white.

    Raises PermanentFailure if the image can't be decoded.
    """
    decoded = decode_image(source, max_side=max_side, max_pixels=max_pixels)
    small = flatten(decoded.image)
    clean = Image.new("RGB", small.size)
    clean.paste(small)
    clean.save(target, "JPEG", quality=_JPEG_QUALITY)
    return PreparedImage(decoded.width, decoded.height, main_colours(clean), decoded.truncated)


def page_for_provider(page: TaskFile, target: TaskFile, *, max_side: int) -> None:
    """Write a page of `read_document` as a JPEG with a longest side of at most `max_side` pixels."""
    with reading(page) as file, Image.open(file, formats=["PPM"]) as opened:
        opened.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        opened.save(target, "JPEG", quality=_JPEG_QUALITY)


def main_colours(image: Image.Image) -> tuple[ColourShare, ...]:
    """Return up to five main colours of an RGB image, the most frequent first."""
    tiny = image.copy()
    tiny.thumbnail((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    quantized = tiny.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    palette = quantized.getpalette() or []
    total = tiny.width * tiny.height
    counts = quantized.getcolors() or []
    shares = []
    for count, index in sorted(counts, key=lambda pair: -pair[0]):
        if isinstance(index, int):
            red, green, blue = palette[3 * index : 3 * index + 3]
            shares.append(ColourShare(red, green, blue, round(count / total, 4)))
    return tuple(shares)
