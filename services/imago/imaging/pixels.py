"""Decode images: only the detected format, with a pixel limit, upright, in sRGB.

This runs in a child process (`imaging.sandbox`), because no check of a header makes a decoder safe.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pillow_heif
from PIL import Image, ImageCms, ImageFile

from imago.core.jobs.failures import PermanentFailure
from imago.imaging.files import TaskFile, reading
from imago.imaging.header import PARSER_ERRORS, sniff

pillow_heif.register_heif_opener()

# Pillow's names for the formats of `header.sniff`, where they differ.
_FORMATS = {"heic": ["HEIF"], "avif": ["AVIF"], "jpeg": ["JPEG", "MPO"]}

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

# The factors by which libjpeg can shrink an image while it decodes.
_JPEG_SCALES = (2, 4, 8)

# The orientation tag of EXIF, and the operation that makes an image with each value upright.
_ORIENTATION = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def open_image(source: TaskFile, *, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image of a supported format. Any decoding error inside the block becomes a PermanentFailure."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings(), reading(source) as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            kind = sniff(file.read(256))
            if kind is None:
                raise PermanentFailure("undecodable-image", "The file is not an image of a known format.")
            file.seek(0)
            with Image.open(file, formats=_FORMATS.get(kind, [kind.upper()])) as image:
                if image.width * image.height > max_pixels:
                    raise PermanentFailure("too-many-pixels", "The image has more pixels than this server decodes.")
                yield image
    except (*PARSER_ERRORS, RuntimeError) as error:
        # libavif and libheif raise RuntimeError on broken planes, missing items and impossible sizes.
        raise _failure(error) from error


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1..8; 1 for HEIC and AVIF, which their decoders make upright.

    Call it on the opened image, because some of Pillow's operations lose the tag.
    """
    if image.format in ("HEIF", "AVIF"):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION)
    except PARSER_ERRORS:
        return 1
    return value if isinstance(value, int) and value in _TO_UPRIGHT else 1


def make_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image upright, given its EXIF orientation."""
    method = _TO_UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the width and height of an image after `make_upright`."""
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def shrink(image: Image.Image, max_side: int) -> Image.Image:
    """Return the decoded image with a longest side of at most `max_side` pixels; it is never enlarged.

    JPEG is scaled while it is decoded, if the result has exactly the requested size or at least one and a half times
    of it. Modes that can't be averaged are converted first. The others are converted later, when the image is smaller.
    """
    if image.mode in ("P", "PA", "1") or image.mode.startswith("I;16"):
        image = _to_plain_mode(image)
    factor, remainder = divmod(max(image.size), max_side)
    if remainder == 0 and factor in _JPEG_SCALES:
        # The decoder returns the exact size, so no resampling is needed: a third less CPU at the same quality.
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
    # Pillow's default gap of 2 takes up to twice the CPU, and improves a stored thumbnail by at most 0.4 dB
    # (docs/performance.md).
    image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC, reducing_gap=1.5)
    image.load()
    return image


def to_srgb(image: Image.Image) -> Image.Image:
    """Return the image in sRGB, as RGBA if it has transparency, else as RGB. A broken profile is ignored."""
    profile = image.info.get("icc_profile")
    plain = _to_plain_mode(image)
    if not profile:
        return plain
    alpha = plain.getchannel("A") if plain.mode == "RGBA" else None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "CMYK" and image.mode == "CMYK":
            base = image
        elif space == "RGB":
            base = plain.convert("RGB")
        elif space == "GRAY" and image.mode == "L":
            base = image
        else:
            return plain
        converted = ImageCms.profileToProfile(base, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return plain
    if converted is None:
        return plain
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def flatten(image: Image.Image) -> Image.Image:
    """Return an RGB image with white in place of transparency."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def _to_plain_mode(image: Image.Image) -> Image.Image:
    """Return the image as RGB or RGBA, with samples of 16 and 32 bits converted to 8 bits."""
    if image.mode in ("RGB", "RGBA"):
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        return _scaled(image)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Scale the actual range of an image's samples to 8 bits."""
    samples = image.convert("F")
    low, high = samples.getextrema()
    if not isinstance(low, float) or not isinstance(high, float) or not high > low:
        return samples.convert("L").convert("RGB")
    factor = 255.0 / (high - low)
    return samples.point(lambda value: value * factor - low * factor).convert("L").convert("RGB")


def _failure(error: BaseException) -> PermanentFailure:
    if isinstance(error, MemoryError):
        return PermanentFailure("out-of-memory", "The image needs more memory than a worker may use.")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return PermanentFailure("too-many-pixels", "The image has more pixels than this server decodes.")
    if isinstance(error, OSError) and "truncated" in str(error):
        return PermanentFailure("truncated-image", "The file ends before the image does.")
    return PermanentFailure("undecodable-image", "The image can't be decoded.")
