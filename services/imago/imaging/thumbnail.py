"""Thumbnails: upright, in sRGB, without metadata."""

import io
from typing import Literal

from PIL import Image

from imago.core.images.results import ThumbnailResult
from imago.imaging.files import TaskFile, write
from imago.imaging.perceptual_hash import perceptual_hash
from imago.imaging.pixels.colour import flatten
from imago.imaging.pixels.decode import decode_image

ThumbnailFormat = Literal["webp", "jpeg"]

_QUALITY = 80


def make_thumbnail(
    source: TaskFile, target: TaskFile, *, size: int, format: ThumbnailFormat, max_pixels: int
) -> ThumbnailResult:
    """Write a thumbnail of `source` with a longest side of `size` pixels to `target`; it is never enlarged.

    Transparency is kept in WebP, and becomes white in JPEG. Raises PermanentFailure if the image can't be decoded.
    """
    decoded = decode_image(source, max_side=size, max_pixels=max_pixels)
    small = flatten(decoded.image) if format == "jpeg" else decoded.image
    # A new image has no comments, profiles, EXIF or XMP of the original.
    clean = Image.new(small.mode, small.size)
    clean.paste(small)
    # Method 2 takes a third of the default's time, for 2 % more bytes.
    options: dict[str, object] = {"method": 2} if format == "webp" else {"optimize": True}
    encoded = io.BytesIO()
    clean.save(encoded, format.upper(), quality=_QUALITY, **options)
    data = encoded.getvalue()
    write(target, data)
    looks = perceptual_hash(clean)
    return ThumbnailResult(f"image/{format}", clean.width, clean.height, len(data), decoded.truncated, looks)
