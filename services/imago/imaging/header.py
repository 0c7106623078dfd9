"""Detect an image's format, size in pixels and number of frames from its bytes, without decoding it.

File names and declared types are ignored. A file that is a valid image and something else too (a polyglot) is accepted
as the image, and is only ever served as that.
"""

import io
import struct
from dataclasses import replace
from typing import BinaryIO

from PIL import BmpImagePlugin, Image, TiffImagePlugin

from imago.core.errors import EmptyFile, UnreadableImage
from imago.core.images.model import ImageFormat, ImageHeader
from imago.imaging import bmff, other_formats
from imago.imaging.containers import gif, jpeg, png, tiff, webp
from imago.imaging.containers.reading import BoundedReader, BrokenContainer, UnsupportedVariant

# No real image has more.
MAX_FRAMES = 10_000
# A GIF of 50 MB has 200,000 blocks of 255 bytes.
MAX_STEPS = 500_000

# Encoders write up to 30 scans. A decoder passes over all pixels in each scan, at 0.3 s for 1,000 megapixels.
MAX_SCANS = 200
MIN_SCAN_LIMIT = 30
MAX_SCANNED_PIXELS = 5_000_000_000

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

    The stream must be seekable. Few of its bytes are read, except those of progressive JPEG and of GIF, whose parts are
    counted. The caller checks the number of pixels.
    """
    reader = BoundedReader(stream, max_steps=MAX_STEPS)
    head = reader.read(0, min(256, reader.size))
    if not head:
        raise EmptyFile("The file is empty.")
    kind = require_format(head)
    try:
        header = _measure(stream, reader, kind)
    except BrokenContainer as error:
        raise UnreadableImage(f"The {kind.value.upper()} file can't be read: {error}.") from error
    except PARSER_ERRORS as error:
        raise UnreadableImage(f"The file looks like {kind.value.upper()}, but its header is invalid.") from error
    if header.width < 1 or header.height < 1:
        raise UnreadableImage("The image has no pixels.")
    return replace(header, frames=min(max(header.frames, 1), MAX_FRAMES))


def require_format(head: bytes) -> ImageFormat:
    """Return the format of a file's first 256 bytes; raise UnsupportedMediaType, which names other known formats."""
    refused = other_formats.refusal(head)
    if refused is not None:
        raise refused
    kind = sniff(head)
    if kind is None:
        raise other_formats.unknown()
    return kind


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


def _measure(stream: BinaryIO, reader: BoundedReader, kind: ImageFormat) -> ImageHeader:
    match kind:
        case ImageFormat.JPEG:
            return _jpeg(reader)
        case ImageFormat.PNG:
            found = png.layout(reader)
            return ImageHeader(kind, found.width, found.height, found.frames)
        case ImageFormat.WEBP:
            canvas = webp.layout(reader)
            return ImageHeader(kind, canvas.width, canvas.height, canvas.frames)
        case ImageFormat.GIF:
            screen = gif.layout(reader)
            return ImageHeader(kind, screen.width, screen.height, screen.frames)
        case ImageFormat.TIFF:
            return _tiff(reader)
        case ImageFormat.HEIC | ImageFormat.AVIF:
            return _heif(reader, kind)
        case ImageFormat.BMP:
            return _bmp(stream)


def _jpeg(reader: BoundedReader) -> ImageHeader:
    found = jpeg.layout(reader)
    frame = found.frame
    if frame.bits != 8 or frame.components not in (1, 3, 4):
        raise UnsupportedVariant(f"it has {frame.components} components of {frame.bits} bits; convert it to 8-bit JPEG")
    jpeg.count_scans(reader, found, limit=_most_scans(frame.width * frame.height))
    return ImageHeader(ImageFormat.JPEG, frame.width, frame.height, found.pictures)


def _most_scans(pixels: int) -> int:
    return max(MIN_SCAN_LIMIT, min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, pixels)))


def _tiff(reader: BoundedReader) -> ImageHeader:
    directories = tiff.open_directories(reader)
    raw = tiff.raw_kind(directories)
    if raw is not None:
        raise other_formats.raw_tiff(raw)
    page = tiff.layout(directories)
    try:
        # Without pixels and other tags, what Pillow reads here is small.
        TiffImagePlugin.TiffImageFile(io.BytesIO(tiff.essentials(directories))).close()
    except PARSER_ERRORS as error:
        raise UnsupportedVariant(
            f"{page.samples} samples of {page.bits} bits in compression {page.compression} are not supported; "
            "save it with 8 or 16 bits in a common compression, such as LZW"
        ) from error
    return ImageHeader(ImageFormat.TIFF, page.width, page.height, page.pages)


def _heif(reader: BoundedReader, kind: ImageFormat) -> ImageHeader:
    info = bmff.read_heif(reader)
    if info.codec is None and info.foreign_codecs:
        codec = info.foreign_codecs[0].decode("latin-1")
        raise UnsupportedVariant(f"its codec is {codec!r}; convert it to HEIC (HEVC) or AVIF (AV1)")
    if info.primary_size is None:
        raise BrokenContainer("the size of the primary image is missing")
    # The brand can be a generic one, so the codec of the items decides.
    kind = {b"av01": ImageFormat.AVIF, b"hvc1": ImageFormat.HEIC}.get(info.codec or b"", kind)
    return ImageHeader(kind, *info.primary_size, max(info.images, bmff.sequence_frames(reader)))


def _bmp(stream: BinaryIO) -> ImageHeader:
    stream.seek(0)
    # Pillow reads only the headers and a palette of at most 256 KB. Unlike `Image.open`, this takes large images:
    # the caller checks the limit, and reports it.
    with BmpImagePlugin.BmpImageFile(stream) as image:
        return ImageHeader(ImageFormat.BMP, *image.size, 1)
