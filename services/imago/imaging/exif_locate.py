"""Find the EXIF block in a file of each format, and read few other bytes."""

import binascii
import re
import struct
import zlib
from typing import BinaryIO

from imago.core.images.model import ImageFormat
from imago.imaging import bmff
from imago.imaging.header import sniff

# Files with maker notes of 10 MB exist to break readers. The tags that Imago reads come before them.
MAX_BLOCK = 1024 * 1024
MAX_SEGMENTS = 512
MAX_CHUNKS = 20_000

_MARK = b"Exif\0\0"
_RAW_PROFILE = (b"Raw profile type exif", b"Raw profile type APP1")


def locate(stream: BinaryIO) -> bytes | None:
    """Return the EXIF block of a file from its byte order on, at most `MAX_BLOCK` bytes; None if it has none.

    A TIFF file is itself such a block, and `exif.read_exif` reads it in place.
    """
    stream.seek(0)
    kind = sniff(stream.read(256))
    try:
        match kind:
            case ImageFormat.JPEG:
                block = _in_jpeg(stream)
            case ImageFormat.PNG:
                block = _in_png(stream)
            case ImageFormat.WEBP:
                block = _in_webp(stream)
            case ImageFormat.HEIC | ImageFormat.AVIF:
                block = _in_heif(stream)
            case _:
                return None
    except (struct.error, IndexError, ValueError, zlib.error, binascii.Error):
        return None
    if block is None:
        return None
    return block.removeprefix(_MARK)[:MAX_BLOCK]


def _in_jpeg(stream: BinaryIO) -> bytes | None:
    position = 2
    for _ in range(MAX_SEGMENTS):
        stream.seek(position)
        head = stream.read(10)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker, length = head[1], struct.unpack_from(">H", head, 2)[0]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xE1 and head[4:10] == _MARK:
            return stream.read(length - 8)
        # Start of scan or end of image: the pixels follow.
        if marker in (0xDA, 0xD9) or length < 2:
            return None
        position += 2 + length
    return None


def _in_png(stream: BinaryIO) -> bytes | None:
    position, text = 8, None
    for _ in range(MAX_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            break
        length = struct.unpack(">I", head[:4])[0]
        if head[4:] == b"eXIf":
            return stream.read(min(length, MAX_BLOCK))
        if text is None and head[4:] in (b"tEXt", b"zTXt"):
            text = _raw_profile(head[4:], stream.read(min(length, 2 * MAX_BLOCK)))
        position += 12 + length
    return text


def _raw_profile(kind: bytes, body: bytes) -> bytes | None:
    """Read EXIF that ImageMagick wrote into a text chunk: a name, a length and hexadecimal digits."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _RAW_PROFILE:
        return None
    if kind == b"zTXt":
        rest = zlib.decompressobj().decompress(rest[1:], 3 * MAX_BLOCK)
    match = re.match(rb"\s*\w+\s+\d+\s+([0-9a-fA-F\s]+)", rest)
    return binascii.unhexlify(b"".join(match[1].split())) if match else None


def _in_webp(stream: BinaryIO) -> bytes | None:
    position = 12
    for _ in range(MAX_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return None
        length = struct.unpack("<I", head[4:])[0]
        if head[:4] == b"EXIF":
            return stream.read(min(length, MAX_BLOCK))
        position += 8 + length + (length & 1)
    return None


def _in_heif(stream: BinaryIO) -> bytes | None:
    info = bmff.read_heif(stream)
    items = [item for item, kind in info.types.items() if kind == b"Exif"]
    if not items:
        return None
    data = bmff.read_item(stream, info, items[0], limit=MAX_BLOCK)
    # The item begins with the offset of the TIFF header, often with an "Exif\0\0" in between.
    start = 4 + struct.unpack(">I", data[:4])[0]
    return data[start:] if data[start : start + 2] in (b"II", b"MM") else data[4:]
