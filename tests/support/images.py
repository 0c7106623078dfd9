"""Small generated images of every format."""

import io
from typing import Any

import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

FORMATS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "gif": "GIF",
    "webp": "WEBP",
    "tiff": "TIFF",
    "bmp": "BMP",
    "heic": "HEIF",
    "avif": "AVIF",
}


def picture(width: int = 64, height: int = 48, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Return an image whose corners differ, so that a rotation is noticed."""
    image = Image.new("RGB", (width, height), (40 + seed % 100, 90, 160))
    image.paste((220, 30, 30), (0, 0, width // 2, height // 2))
    image.paste((30, 200, 60), (width // 2, 0, width, height // 4))
    return image.convert(mode)


def encoded(kind: str = "jpeg", image: Image.Image | None = None, **options: Any) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    (image or picture()).save(buffer, FORMATS[kind], **options)
    return buffer.getvalue()


def animated(kind: str, frames: int = 3) -> bytes:
    """Return the bytes of a file with several frames."""
    first, *others = [picture(seed=index * 30) for index in range(frames)]
    return encoded(kind, first, save_all=True, append_images=others)
