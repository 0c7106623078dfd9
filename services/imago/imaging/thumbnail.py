"""Thumbnails: upright, in sRGB, without metadata."""

import io
from typing import Literal

from PIL import Image

from imago.core.images.results import ThumbnailResult
from imago.imaging import pixels
from imago.imaging.files import TaskFile, write

ThumbnailFormat = Literal["webp", "jpeg"]

_QUALITY = 80


def make_thumbnail(
    source: TaskFile, target: TaskFile, *, size: int, format: ThumbnailFormat, max_pixels: int
) -> ThumbnailResult:
    """Write a thumbnail of `source` with a longest side of `size` pixels to `target`; it is never enlarged.

    Transparency is kept in WebP, and becomes white in JPEG. Raises PermanentFailure if the image can't be decoded.
    """
    with pixels.open_image(source, max_pixels=max_pixels) as image:
        orientation = pixels.orientation(image)
        small = pixels.make_upright(pixels.to_srgb(pixels.shrink(image, size)), orientation)
        if format == "jpeg":
            small = pixels.flatten(small)
        # A new image has no comments, profiles, EXIF or XMP of the original.
        clean = Image.new(small.mode, small.size)
        clean.paste(small)
        # Method 2 takes a third of the default's time, for 2 % more bytes.
        options: dict[str, object] = {"method": 2} if format == "webp" else {"optimize": True}
        encoded = io.BytesIO()
        clean.save(encoded, format.upper(), quality=_QUALITY, **options)
    data = encoded.getvalue()
    write(target, data)
    return ThumbnailResult(f"image/{format}", clean.width, clean.height, len(data))
