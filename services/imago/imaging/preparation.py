"""Images made ready for what reads them: a small upright JPEG for vision, an upright gray page for OCR."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from imago.core.images.vision import ColourShare
from imago.imaging import pixels

_JPEG_QUALITY = 85
_COLOURS = 5
_COLOUR_SIDE = 64


@dataclass(frozen=True)
class Prepared:
    """What was prepared: the upright size of the original, in pixels, and its main colours."""

    width: int
    height: int
    colours: tuple[ColourShare, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what crosses the pipe from a child process."""
        return {
            "width": self.width,
            "height": self.height,
            "colours": [[colour.red, colour.green, colour.blue, colour.share] for colour in self.colours],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Prepared":
        """Read back what `to_json` gave."""
        return cls(data["width"], data["height"], tuple(ColourShare(*colour) for colour in data["colours"]))


def prepare_for_vision(source: Path, target: Path, *, max_side: int, max_pixels: int) -> Prepared:
    """Write an upright sRGB JPEG, at most `max_side` pixels at its longest side, transparency on white.

    Raises PermanentFailure where the image can't be decoded.
    """
    with pixels.open_image(source, max_pixels=max_pixels) as image:
        by = pixels.orientation(image)
        width, height = pixels.upright_size(image.size, by)
        small = pixels.flatten(pixels.turn(pixels.to_srgb(pixels.shrink(image, max_side)), by))
        clean = Image.new("RGB", small.size)
        clean.paste(small)
        clean.save(target, "JPEG", quality=_JPEG_QUALITY)
        return Prepared(width, height, main_colours(clean))


def prepare_for_ocr(source: Path, target: Path, *, max_side: int, max_pixels: int) -> None:
    """Write an upright gray page without compression (PGM: the cheapest to write and to read), transparency on white.

    A page larger than `max_side` is shrunk, none is enlarged. Raises PermanentFailure as above.
    """
    with pixels.open_image(source, max_pixels=max_pixels) as image:
        by = pixels.orientation(image)
        page = pixels.turn(pixels.to_srgb(pixels.shrink(image, max_side)), by)
        pixels.flatten(page).convert("L").save(target, "PPM")


def page_for_provider(page: Path, target: Path, *, max_side: int) -> None:
    """Write a page that `prepare_for_ocr` made as a JPEG, at most `max_side` pixels at its longest side."""
    with Image.open(page, formats=["PPM"]) as opened:
        opened.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        opened.save(target, "JPEG", quality=_JPEG_QUALITY)


def main_colours(image: Image.Image) -> tuple[ColourShare, ...]:
    """Return up to five colours that stand for an RGB image, the most frequent first."""
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
