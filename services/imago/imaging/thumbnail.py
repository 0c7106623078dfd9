"""Thumbnails: upright, in sRGB, without any metadata."""

from pathlib import Path
from typing import Literal

from PIL import Image

from imago.core.images.results import ThumbnailResult
from imago.imaging import pixels

ThumbnailFormat = Literal["webp", "jpeg"]

_QUALITY = 80


def make_thumbnail(
    source: Path, target: Path, *, size: int, format: ThumbnailFormat, max_pixels: int
) -> ThumbnailResult:
    """Write a thumbnail of `source` to `target`, `size` pixels at its longest side and never enlarged.

    Transparency is kept in WebP and put on white in JPEG. Raises PermanentFailure where the image can't be decoded.
    """
    with pixels.open_image(source, max_pixels=max_pixels) as image:
        by = pixels.orientation(image)
        small = pixels.turn(pixels.to_srgb(pixels.shrink(image, size)), by)
        if format == "jpeg":
            small = pixels.flatten(small)
        # A new image has none of the old one's info: comments, profiles, EXIF, XMP.
        clean = Image.new(small.mode, small.size)
        clean.paste(small)
        # Method 2 costs a third of the default's time for 2 % more bytes.
        options: dict[str, object] = {"method": 2} if format == "webp" else {"optimize": True}
        clean.save(target, format.upper(), quality=_QUALITY, **options)
    return ThumbnailResult(f"image/{format}", clean.width, clean.height, target.stat().st_size)
