"""Images: their formats, their names and their places in storage."""

import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

MAX_NAME_LENGTH = 255


class ImageFormat(StrEnum):
    """A format that Imago takes, found by content; the value is what the API shows."""

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
        """The media type that a stored image of this format is served with."""
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
    """What is known of an image before anything decodes it: pixels as stored (before orientation), and frames."""

    format: ImageFormat
    width: int
    height: int
    frames: int

    @property
    def pixels(self) -> int:
        """The number of pixels of one frame."""
        return self.width * self.height


def clean_name(name: str | None) -> str:
    """Return a file name fit to store and show: its last part, NFC, no control characters; else 'image'."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(char for char in unicodedata.normalize("NFC", last) if unicodedata.category(char)[0] != "C")
    return kept.strip()[:MAX_NAME_LENGTH].strip() or "image"


def object_prefix(prefix: str, client: UUID, image: UUID) -> str:
    """Return the folder of an image's objects; only uuids, so nothing a client names reaches a path."""
    parts = [part for part in (prefix.strip("/"), str(client), str(image)) if part]
    return "/".join(parts)


def original_key(prefix: str, client: UUID, image: UUID) -> str:
    """Return the object key of an image as it was uploaded."""
    return object_prefix(prefix, client, image) + "/original"


def thumbnail_key_beside(original: str) -> str:
    """Return the key that the thumbnail of an original has, whether or not it was made yet."""
    return original.rsplit("/", 1)[0] + "/thumbnail"


def thumbnail_key(prefix: str, client: UUID, image: UUID) -> str:
    """Return the object key of an image's thumbnail."""
    return object_prefix(prefix, client, image) + "/thumbnail"
