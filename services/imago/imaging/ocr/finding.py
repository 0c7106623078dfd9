"""Decode the pages of a file, and find the lines of text on each with the detector, which looks at a small copy."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps

from imago.core.images.model import ImageFormat
from imago.imaging.files import TaskFile, reading
from imago.imaging.formats.header import sniff
from imago.imaging.ocr import paddle
from imago.imaging.ocr.paddle import Quads
from imago.imaging.pixels.colour import flatten
from imago.imaging.pixels.decode import DecodedImage, decode_image

# The longest side of the copy. At 320 pixels 5 % of the pages with text were missed, at 480 none.
_FINDING_SIDE = 480

# Images whose grays span less than this are pale, without the darkest and the brightest pixels (in percent).
_PALE = 64
_OUTLIERS = 0.5

# In photos without text the detector takes large shapes for lines: their height is this part of the longest side.
_LARGE = 0.3
# They are read as one sign, or with a score below 0.7. Large words have scores above 0.9.
_LEGIBLE_CHARACTERS = 2
_LEGIBLE_SCORE = 0.8

_NO_LINES: Quads = np.zeros((0, 4, 2))


@dataclass(frozen=True)
class DecodedPage:
    """An upright gray page, transparency on white, and the lines of text that were found on it, in its pixels.

    `width` and `height` are those of the upright original. `image` is None if the page has no text.
    """

    image: Image.Image | None
    quads: Quads
    width: int
    height: int
    truncated: bool

    def without_pixels(self) -> "DecodedPage":
        """Return what is known of the page, without its image."""
        return replace(self, image=None)


def decode_page(source: TaskFile, *, max_side: int, max_pixels: int, page: int, finds_lines: bool) -> DecodedPage:
    """Decode a page with a longest side of at most `max_side` pixels, and find its lines if `finds_lines`.

    A JPEG is decoded at a small size first, and again only if it has text. Raises what `decode_image` raises.
    """
    if finds_lines and page == 0 and _is_jpeg(source):
        small = decode_image(source, max_side=_FINDING_SIDE, max_pixels=max_pixels)
        quads = _legible_lines(flatten(small.image))
        if not len(quads):
            return _page(small, quads)
        decoded = decode_image(source, max_side=max_side, max_pixels=max_pixels)
        return _page(decoded, quads * (decoded.image.width / small.image.width))
    decoded = decode_image(source, max_side=max_side, max_pixels=max_pixels, page=page)
    flat = flatten(decoded.image)
    return _page(decoded, _find_lines(flat) if finds_lines else None, flat)


def _page(decoded: DecodedImage, quads: Quads | None, flat: Image.Image | None = None) -> DecodedPage:
    has_lines = quads is None or len(quads) > 0
    image = (flat or flatten(decoded.image)).convert("L") if has_lines else None
    return DecodedPage(image, _NO_LINES if quads is None else quads, decoded.width, decoded.height, decoded.truncated)


def find_lines_again(image: Image.Image) -> Quads:
    """Return the lines on a larger copy of the image, in its pixels."""
    return _find_lines(image, side=paddle.DETECTOR_SIDE)


def _find_lines(image: Image.Image, *, side: int = _FINDING_SIDE) -> Quads:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=1.5)
    return _legible_lines(small) * (image.width / small.width)


def _legible_lines(image: Image.Image) -> Quads:
    """Return the lines of text of an image, without large shapes that can't be read."""
    quads = paddle.find_lines(_with_contrast(image))
    sides = np.linalg.norm(quads - np.roll(quads, 1, axis=1), axis=2)
    doubtful = np.flatnonzero(sides.min(axis=1, initial=np.inf) > _LARGE * max(image.size))
    readings = paddle.read_shapes(image, quads[doubtful]) if len(doubtful) else []
    wrong = [
        index
        for index, (text, score) in zip(doubtful, readings, strict=True)
        if len(text.strip()) < _LEGIBLE_CHARACTERS or score < _LEGIBLE_SCORE
    ]
    return np.delete(quads, wrong, axis=0)


def _with_contrast(image: Image.Image) -> Image.Image:
    """Return a pale image with its full range of grays: the detector misses small letters with little contrast."""
    gray = image.convert("L")
    darkest, brightest = np.percentile(np.asarray(gray), (_OUTLIERS, 100 - _OUTLIERS))
    return ImageOps.autocontrast(gray, cutoff=_OUTLIERS) if 0 < brightest - darkest < _PALE else image


def _is_jpeg(source: TaskFile) -> bool:
    with reading(source) as file:
        return sniff(file.read(256)) is ImageFormat.JPEG
