"""Estimate the memory that decoding an image takes, from its header.

The figures were measured as the largest memory of a process that prepares pages of 64 megapixels for OCR, the stage
that decodes at the largest size. They are upper bounds for the versions of the decoders that are installed.
"""

from dataclasses import dataclass

from imago.core.images.ocr.result import OCR_SIDE

# Pillow stores RGB in four bytes, as RGBA.
_COLOUR = 4
_JPEG_SCALES = (8, 4, 2, 1)


@dataclass(frozen=True)
class Cost:
    """Bytes per pixel while an image is decoded, and while it is reduced afterwards."""

    decoding: float
    held: float


HEIC = Cost(7.5, 4)
AVIF = Cost(9.5, 4)
WEBP = Cost(16.5, 12)
"""The decoder of animations holds two canvases."""
GRAY_KEY = Cost(10, 4)
COLOUR_KEY = Cost(14, 4)
"""A transparent colour is compared channel by channel."""

_GRAY = Cost(1, 1)
_RGB = Cost(4, 4)
_DEEP_GRAY = Cost(6, 6)
# The weighted copy that is reduced is made beside the image.
_ALPHA = Cost(8, 4)
# Palettes and bits are converted to RGB or RGBA beside the image.
_CONVERTED = Cost(5, 5)
_CONVERTED_ALPHA = Cost(9, 5)


def of_mode(mode: str, *, transparency: bool = False) -> Cost:
    """Return the cost of an image that Pillow decodes to a mode; `transparency` is that of a palette."""
    if mode in ("P", "PA", "1"):
        return _CONVERTED_ALPHA if transparency else _CONVERTED
    if mode.startswith("I;16"):
        return _DEEP_GRAY
    return {"L": _GRAY, "RGBA": _ALPHA, "LA": _ALPHA}.get(mode, _RGB)


def estimate(width: int, height: int, cost: Cost) -> int:
    """Return the bytes that decoding and reducing an image take at most."""
    pixels = width * height
    return int(max(cost.decoding * pixels, cost.held * pixels + _reduction(width, height)))


def estimate_jpeg(width: int, height: int, *, components: int, coefficients: float) -> int:
    """Return the bytes for a JPEG, which is scaled while it is decoded; `coefficients` of a pixel are held meanwhile.

    Only files with several scans have such coefficients, of two bytes each.
    """
    scale = jpeg_scale(max(width, height), OCR_SIDE)
    shown_width, shown_height = -(-width // scale), -(-height // scale)
    bytes_per_pixel = 1 if components == 1 else _COLOUR
    shown = shown_width * shown_height * bytes_per_pixel
    return int(max(2 * coefficients * width * height + shown, shown + _reduction(shown_width, shown_height)))


def jpeg_scale(side: int, longest_side: int) -> int:
    """Return the factor by which a JPEG is scaled while it is decoded, so that its side is not below `longest_side`."""
    return next(scale for scale in _JPEG_SCALES if scale == 1 or side >= scale * longest_side)


def _reduction(width: int, height: int) -> int:
    """Return the bytes of an image that is reduced first to the width and then to the height of a page."""
    ratio = min(1.0, OCR_SIDE / max(width, height))
    page_width, page_height = int(width * ratio) + 1, int(height * ratio) + 1
    return _COLOUR * page_width * (height + page_height)
