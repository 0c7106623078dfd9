"""From a file to an upright picture in sRGB: the one way for thumbnails, OCR and vision."""

import io
from dataclasses import dataclass, replace

from PIL import Image

from imago.core.jobs.failures import PermanentFailure
from imago.imaging.files import TaskFile, reading
from imago.imaging.pixels.colour import to_srgb
from imago.imaging.pixels.opening import OpenedImage, open_image
from imago.imaging.pixels.orientation import make_upright, orientation, upright_size
from imago.imaging.pixels.salvage import continued
from imago.imaging.pixels.samples import averageable, to_plain

# The factors by which libjpeg can shrink an image while it decodes.
_JPEG_SCALES = (2, 4, 8)

# Larger images are reduced with less memory, at a lower quality that is not visible in the result.
_LARGE_PIXELS = 40_000_000

# Modes with alpha, which are averaged with colours weighted by it.
_PREMULTIPLIED = {"RGBA": "RGBa", "LA": "La"}

_BROKEN_DATA = frozenset({"truncated-image", "undecodable-image"})


@dataclass(frozen=True)
class DecodedImage:
    """A picture: RGB, or RGBA with transparency; the upright size of the original; whether pixels were missing."""

    image: Image.Image
    width: int
    height: int
    truncated: bool = False


def decode_image(source: TaskFile, *, max_side: int, max_pixels: int, page: int = 0) -> DecodedImage:
    """Decode a page with a longest side of at most `max_side` pixels; it is never enlarged.

    A file whose pixels end early is decoded as far as it goes. Raises PermanentFailure if nothing can be decoded, and
    NoSuchPageError if the file has fewer pages (only TIFF has more than one).
    """
    try:
        return _decode(source, max_side=max_side, max_pixels=max_pixels, page=page)
    except PermanentFailure as failure:
        if failure.code not in _BROKEN_DATA:
            raise
        found = _salvage(source, max_side=max_side, max_pixels=max_pixels, page=page)
        if found is None:
            raise
        return found


def shrink(image: Image.Image, max_side: int) -> Image.Image:
    """Return the decoded image with a longest side of at most `max_side` pixels; it is never enlarged.

    JPEG is scaled while it is decoded, if the result has exactly the requested size or at least one and a half times
    of it; a large one also if the result is only as large as requested, for the sake of memory. The image is closed.
    """
    factor, remainder = divmod(max(image.size), max_side)
    if remainder == 0 and factor in _JPEG_SCALES:
        # The decoder returns the exact size, so no resampling is needed: a third less CPU at the same quality.
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
    # Pillow's default gap of 2 takes up to twice the CPU, and improves a stored thumbnail by at most 0.4 dB
    # (docs/performance.md).
    gap = 1.5 if image.width * image.height <= _LARGE_PIXELS else 1.0
    premultiplied = _PREMULTIPLIED.get(image.mode) if max(image.size) > max_side else None
    if premultiplied is None:
        image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=gap)
        image.load()
        return image
    mode, whole = image.mode, image
    image = whole.convert(premultiplied)
    # Pillow would make this copy itself, and keep the original beside it.
    whole.close()
    image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=gap)
    return image.convert(mode)


def _decode(source: TaskFile, *, max_side: int, max_pixels: int, page: int, lenient: bool = False) -> DecodedImage:
    with open_image(source, max_pixels=max_pixels, page=page, lenient=lenient) as opened:
        # A part of an image has no format, and so no orientation.
        turn = orientation(opened.image)
        opened = opened.cropped()
        width, height = upright_size(opened.image.size, turn)
        profile = opened.image.info.get("icc_profile")
        small = shrink(_with_transparency(opened), max_side)
        colours = to_srgb(small, profile=profile, described=opened.colours, samples=opened.samples)
        return DecodedImage(make_upright(colours, turn), width, height)


def _with_transparency(opened: OpenedImage) -> Image.Image:
    """Return the image in a mode whose pixels can be averaged, with an alpha channel in place of a transparent colour.

    The colour must not be averaged with its neighbours, and Pillow weights pixels by their alpha.
    """
    mask = opened.key_mask()
    if mask is None:
        return averageable(opened.image, opened.samples)
    plain = to_plain(averageable(opened.image, opened.samples), opened.samples).convert("RGB")
    plain.putalpha(mask)
    return plain


def _salvage(source: TaskFile, *, max_side: int, max_pixels: int, page: int) -> DecodedImage | None:
    """Decode a file that ends early; return None if that shows nothing."""
    with reading(source) as stream:
        files = continued(stream.read())
    decoded: list[DecodedImage] = []
    for data in files:
        try:
            lenient = len(files) == 1
            decoded.append(
                _decode(io.BytesIO(data), max_side=max_side, max_pixels=max_pixels, page=page, lenient=lenient)
            )
        except PermanentFailure as failure:
            if failure.code not in _BROKEN_DATA:
                raise
            break
    if not decoded:
        return None
    first = decoded[0]
    if len(decoded) == 2 and first.image.tobytes() == decoded[1].image.tobytes():
        return first
    # What no byte of the file describes has one colour.
    has_one_colour = (first.image.convert("RGB").getcolors(maxcolors=1) or []) != []
    return None if has_one_colour else replace(first, truncated=True)
