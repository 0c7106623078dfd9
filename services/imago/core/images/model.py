"""Image formats, file names and object keys."""

import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from imago.core.text.cleaning import cut, replace_hidden

MAX_NAME_LENGTH = 255
_MAX_EXTENSION_LENGTH = 16


class ImageFormat(StrEnum):
    """A supported image format, detected by content; the values appear in the API."""

    JPEG = "jpeg"
    PNG = "png"
    GIF = "gif"
    WEBP = "webp"
    TIFF = "tiff"
    BMP = "bmp"
    HEIC = "heic"
    AVIF = "avif"

    @property
    def content_type(self) -> str:
        """The media type that an original of this format is served with."""
        return f"image/{self.value}"


@dataclass(frozen=True)
class ImageIdentity:
    """The ids of an image and of its client, in the database and in messages."""

    id: int
    uuid: UUID
    client_id: int
    client: UUID


@dataclass(frozen=True)
class ImageHeader:
    """An image's format, size in stored pixels (before orientation), number of frames, and memory to decode it."""

    format: ImageFormat
    width: int
    height: int
    frames: int
    decode_bytes: int = 0
    """An estimate of the memory that decoding one frame takes."""

    @property
    def pixels(self) -> int:
        """The number of pixels of one frame."""
        return self.width * self.height


def clean_name(name: str | None) -> str:
    """Return the last part of a file name in NFC without hidden characters, or 'image' if nothing is left.

    A name that is too long keeps its extension.
    """
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    # Line and paragraph separators are the only spaces that can't be a part of a name.
    visible = replace_hidden(last, "").replace("\u2028", " ").replace("\u2029", " ")
    kept = _shortened(unicodedata.normalize("NFC", visible).strip())
    return kept if kept.strip(". ") else "image"


def _shortened(name: str) -> str:
    if len(name) <= MAX_NAME_LENGTH:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or not extension.isalnum() or len(extension) > _MAX_EXTENSION_LENGTH:
        return cut(name, MAX_NAME_LENGTH).strip()
    return cut(stem, MAX_NAME_LENGTH - len(dot + extension)).strip() + dot + extension


def object_prefix(prefix: str, client: UUID, image: UUID) -> str:
    """Return the common prefix of an image's object keys. It holds only UUIDs, nothing that a client chose."""
    parts = [part for part in (prefix.strip("/"), str(client), str(image)) if part]
    return "/".join(parts)


def original_key(prefix: str, client: UUID, image: UUID) -> str:
    """Return the object key of an image's original."""
    return object_prefix(prefix, client, image) + "/original"


def thumbnail_key_beside(original: str) -> str:
    """Return the key of the thumbnail that belongs to an original, whether or not it exists."""
    return original.rsplit("/", 1)[0] + "/thumbnail"


def thumbnail_key(prefix: str, client: UUID, image: UUID) -> str:
    """Return the object key of an image's thumbnail."""
    return object_prefix(prefix, client, image) + "/thumbnail"
