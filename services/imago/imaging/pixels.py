"""Decoding with care: one format at a time, a limit on pixels, upright, in sRGB.

This runs in a child process (`imaging.child`), because no check of a header makes a decoder safe.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pillow_heif
from PIL import Image, ImageCms, ImageFile

from imago.core.jobs.failures import PermanentFailure
from imago.imaging.header import PARSER_ERRORS, sniff

pillow_heif.register_heif_opener()

# Pillow's names for what `header.sniff` finds.
_FORMATS = {"heic": ["HEIF"], "avif": ["AVIF"], "jpeg": ["JPEG", "MPO"]}

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

# By what libjpeg can divide sides while it decodes.
_DECODED_SMALLER = (2, 4, 8)

# The orientation tag of EXIF, and what makes each of its values upright.
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def open_image(path: Path, *, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image of one of our formats; whatever goes wrong inside the block is a PermanentFailure."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with path.open("rb") as file:
                kind = sniff(file.read(256))
            if kind is None:
                raise PermanentFailure("undecodable-image", "The file is no image of a known format.")
            with Image.open(path, formats=_FORMATS.get(kind, [kind.upper()])) as image:
                if image.width * image.height > max_pixels:
                    raise PermanentFailure("too-many-pixels", "The image has more pixels than this server decodes.")
                yield image
    except (*PARSER_ERRORS, RuntimeError) as error:
        # RuntimeError is what libavif and libheif raise on broken planes, missing items and absurd sizes.
        raise _failure(error) from error


def orientation(image: Image.Image) -> int:
    """Return how EXIF says the image is to be turned, 1..8; 1 for HEIC and AVIF, whose decoders turn them already.

    It must be asked of the image as it was opened: some of Pillow's operations lose it.
    """
    if image.format in ("HEIF", "AVIF"):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION)
    except PARSER_ERRORS:
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def turn(image: Image.Image, by: int) -> Image.Image:
    """Return the image upright, given its orientation."""
    method = _TURNS.get(by)
    return image if method is None else image.transpose(method)


def upright_size(size: tuple[int, int], by: int) -> tuple[int, int]:
    """Return width and height as they are after `turn`."""
    return (size[1], size[0]) if by in (5, 6, 7, 8) else size


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """Return the image decoded and at most `longest` pixels at its longest side; never enlarged.

    JPEG is scaled while it is decoded where that keeps one and a half times the size, or gives the very size that is
    asked for. Modes that can't be averaged are converted first; the others are converted later, when there is less to
    convert.
    """
    if image.mode in ("P", "PA", "1") or image.mode.startswith("I;16"):
        image = _to_plain_mode(image)
    by, remainder = divmod(max(image.size), longest)
    if remainder == 0 and by in _DECODED_SMALLER:
        # Nothing is left to resample: a third less CPU, and no worse. Anything in between would be blurred twice.
        image.draft(None, (max(1, image.width // by), max(1, image.height // by)))
    # Pillow's own gap of 2 costs up to twice the CPU; a thumbnail as it is stored is at most 0.4 dB better for it
    # (docs/performance.md).
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=1.5)
    image.load()
    return image


def to_srgb(image: Image.Image) -> Image.Image:
    """Return the image in sRGB, as RGB or, where it has transparency, RGBA; a broken profile is ignored."""
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
    """Return an RGB image, its transparency on white."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def _to_plain_mode(image: Image.Image) -> Image.Image:
    """Return the image as RGB or RGBA; 16 and 32 bit samples are brought to 8."""
    if image.mode in ("RGB", "RGBA"):
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        return _scaled(image)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Bring samples of any range to 8 bits by the range they have."""
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
