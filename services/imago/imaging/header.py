"""Detect an image's format, size in pixels and number of frames from its bytes, without decoding it.

File names and declared types are ignored. A file that is a valid image and something else too (a polyglot) is accepted
as the image, and is only ever served as that.
"""

import struct
import warnings
from typing import BinaryIO

from PIL import Image

from imago.core.errors import EmptyFile, UnreadableImage, UnsupportedMediaType
from imago.core.images.model import ImageFormat, ImageHeader
from imago.imaging import bmff

# No real image has more. A longer chain of directories or blocks is an attack.
MAX_FRAMES = 10_000

_PILLOW = {
    ImageFormat.JPEG: "JPEG",
    ImageFormat.PNG: "PNG",
    ImageFormat.BMP: "BMP",
    ImageFormat.TIFF: "TIFF",
    ImageFormat.GIF: "GIF",
}

# The errors that Pillow's parsers raise on broken input.
PARSER_ERRORS = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    RecursionError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def probe(stream: BinaryIO) -> ImageHeader:
    """Return the header of an image file; raise EmptyFile, UnsupportedMediaType or UnreadableImage.

    The stream must be seekable, and few of its bytes are read. The caller checks the number of pixels.
    """
    stream.seek(0)
    head = stream.read(256)
    if not head:
        raise EmptyFile("The file is empty.")
    kind = sniff(head)
    if kind is None:
        raise UnsupportedMediaType("Unsupported file type; expected JPEG, PNG, GIF, WebP, TIFF, BMP, HEIC or AVIF.")
    try:
        width, height, frames = _measure(stream, kind, head)
    except (bmff.InvalidBoxes, *PARSER_ERRORS) as error:
        raise UnreadableImage(f"The file looks like {kind.value.upper()}, but its header is invalid.") from error
    if kind in (ImageFormat.HEIC, ImageFormat.AVIF):
        kind = _heif_kind(stream, kind)
    if width < 1 or height < 1:
        raise UnreadableImage("The image has no pixels.")
    return ImageHeader(kind, width, height, min(max(frames, 1), MAX_FRAMES))


def sniff(head: bytes) -> ImageFormat | None:
    """Return the image format of a file's first bytes, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return ImageFormat.GIF
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return ImageFormat.TIFF
    # "BM" is too short a signature, so the length of the header that follows is checked too.
    if (
        head.startswith(b"BM")
        and len(head) >= 18
        and struct.unpack_from("<I", head, 14)[0] in (12, 40, 52, 56, 64, 108, 124)
    ):
        return ImageFormat.BMP
    brands = bmff.brands(head)
    if brands & bmff.AVIF_BRANDS:
        return ImageFormat.AVIF
    if brands & (bmff.HEIC_BRANDS | bmff.GENERIC_BRANDS):
        return ImageFormat.HEIC
    return None


def _heif_kind(stream: BinaryIO, kind: ImageFormat) -> ImageFormat:
    """Return the format by the codec of the file's items, because its brand may be a generic one."""
    codec = bmff.read_heif(stream).codec
    return {b"av01": ImageFormat.AVIF, b"hvc1": ImageFormat.HEIC}.get(codec or b"", kind)


def _measure(stream: BinaryIO, kind: ImageFormat, head: bytes) -> tuple[int, int, int]:
    match kind:
        case ImageFormat.WEBP:
            return _measure_webp(stream, head)
        case ImageFormat.HEIC | ImageFormat.AVIF:
            info = bmff.read_heif(stream)
            size = info.primary_size
            if size is None:
                raise bmff.InvalidBoxes("no size of the primary image")
            return *size, max(info.images, bmff.sequence_frames(stream))
        case ImageFormat.GIF:
            width, height = struct.unpack_from("<HH", head, 6)
            return width, height, _gif_frames(stream)
        case _:
            width, height, frames = _measure_with_pillow(stream, kind)
            return width, height, _tiff_frames(stream) if kind is ImageFormat.TIFF else frames


def _measure_with_pillow(stream: BinaryIO, kind: ImageFormat) -> tuple[int, int, int]:
    stream.seek(0)
    with warnings.catch_warnings():
        # The caller checks the pixel limit, and reports the client's limit.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(stream, formats=[_PILLOW[kind]]) as image:
                # Pillow reads the frames of JPEG (MPO) and PNG (APNG) from the header; those of TIFF are counted below.
                return *image.size, int(getattr(image, "n_frames", 1)) if kind is not ImageFormat.TIFF else 1
        except Image.DecompressionBombError:
            return _bomb_size(stream, kind)


def _bomb_size(stream: BinaryIO, kind: ImageFormat) -> tuple[int, int, int]:
    """Read the size of an image that Pillow refuses to open for its size, so that the error can report it."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        stream.seek(0)
        with Image.open(stream, formats=[_PILLOW[kind]]) as image:
            return *image.size, 1
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _measure_webp(stream: BinaryIO, head: bytes) -> tuple[int, int, int]:
    first = head[12:16]
    if first == b"VP8X":
        width = int.from_bytes(head[24:27], "little") + 1
        height = int.from_bytes(head[27:30], "little") + 1
        return width, height, _webp_frames(stream) if head[20] & 2 else 1
    if first == b"VP8L" and head[20] == 0x2F:
        bits = struct.unpack_from("<I", head, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1
    if first == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF, 1
    raise ValueError("no image chunk in the WebP file")


def _webp_frames(stream: BinaryIO) -> int:
    position, frames = 12, 0
    for _ in range(MAX_FRAMES):
        stream.seek(position)
        chunk = stream.read(8)
        if len(chunk) < 8:
            break
        frames += chunk[:4] == b"ANMF"
        size = struct.unpack_from("<I", chunk, 4)[0]
        position += 8 + size + (size & 1)
    return frames


def _gif_frames(stream: BinaryIO) -> int:
    """Count the image descriptors, also of a truncated GIF."""
    stream.seek(10)
    flags = stream.read(3)[0]
    if flags & 0x80:
        stream.seek(3 << ((flags & 7) + 1), 1)
    frames = 0
    # Only blocks are limited: a sub-block has 255 bytes, so a frame of 50 MB has 200,000 of them.
    for _ in range(MAX_FRAMES):
        block = stream.read(1)
        if block == b"!":
            stream.seek(1, 1)
        elif block == b",":
            frames += 1
            descriptor = stream.read(9)
            if len(descriptor) < 9:
                break
            if descriptor[8] & 0x80:
                stream.seek(3 << ((descriptor[8] & 7) + 1), 1)
            stream.seek(1, 1)
        else:
            break
        while (size := stream.read(1)) not in (b"", b"\0"):
            stream.seek(size[0], 1)
    if not frames:
        raise ValueError("no image in the GIF file")
    return frames


def _tiff_frames(stream: BinaryIO) -> int:
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    count_code, entry, offset_code = ("Q", 20, "Q") if big else ("H", 12, "I")
    offset = struct.unpack_from(order + offset_code, head, 8 if big else 4)[0]
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_FRAMES:
        stream.seek(offset)
        count_bytes = stream.read(struct.calcsize(count_code))
        if len(count_bytes) < struct.calcsize(count_code):
            break
        seen.add(offset)
        count = struct.unpack(order + count_code, count_bytes)[0]
        if count > 2**16:
            break
        stream.seek(offset + len(count_bytes) + count * entry)
        following = stream.read(struct.calcsize(offset_code))
        if len(following) < struct.calcsize(offset_code):
            break
        offset = struct.unpack(order + offset_code, following)[0]
    return len(seen)
