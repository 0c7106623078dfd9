"""Detect an image's format, size in pixels and number of frames from its bytes, without decoding it.

File names and declared types are ignored. A file that is a valid image and something else too (a polyglot) is accepted
as the image, and is only ever served as that.
"""

import io
import struct
from dataclasses import replace
from typing import BinaryIO

from PIL import BmpImagePlugin, Image

from imago.core.errors import EmptyFile, UnreadableImage
from imago.core.images.model import ImageFormat, ImageHeader
from imago.imaging.containers import bmff, gif, jpeg, png, tiff, webp
from imago.imaging.containers.ifd import Directories
from imago.imaging.containers.reading import BoundedReader, BrokenContainer, UnsupportedVariant
from imago.imaging.formats import decode_memory, other_formats
from imago.imaging.formats.decode_memory import Cost
from imago.imaging.formats.tiff_layouts import TiffImageFile, require_layout

# No real image has more.
MAX_FRAMES = 10_000
# A GIF of 50 MB has 200,000 blocks of 255 bytes.
MAX_STEPS = 500_000

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
    counted. The caller checks the number of pixels and the memory.
    """
    reader = BoundedReader(stream, max_steps=MAX_STEPS)
    head = reader.read(0, 256)
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
    kind = sniff(head)
    if kind is None:
        raise other_formats.refusal(head)
    refused = other_formats.lookalike_refusal(head)
    if refused is not None:
        raise refused
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
            return _png(reader)
        case ImageFormat.WEBP:
            found = webp.layout(reader)
            return _header(kind, found.width, found.height, cost=decode_memory.WEBP, frames=found.frames)
        case ImageFormat.GIF:
            screen = gif.layout(reader)
            cost = decode_memory.of_mode("P", transparency=True)
            return _header(kind, screen.width, screen.height, cost=cost, frames=screen.frames)
        case ImageFormat.TIFF:
            return _tiff(reader)
        case ImageFormat.HEIC | ImageFormat.AVIF:
            return _heif(reader, kind)
        case ImageFormat.BMP:
            return _bmp(stream)


def _header(
    kind: ImageFormat, width: int, height: int, *, cost: Cost, frames: int = 1, more_bytes: int = 0
) -> ImageHeader:
    return ImageHeader(kind, width, height, frames, decode_memory.estimate(width, height, cost) + more_bytes)


def _jpeg(reader: BoundedReader) -> ImageHeader:
    found = jpeg.layout(reader)
    frame = found.frame
    if frame.bits != 8 or frame.components not in (1, 3, 4):
        raise UnsupportedVariant(f"it has {frame.components} components of {frame.bits} bits; convert it to 8-bit JPEG")
    jpeg.check_scans(reader, found)
    coefficients = frame.coefficients if found.several_scans else 0
    memory = decode_memory.estimate_jpeg(
        frame.width, frame.height, components=frame.components, coefficients=coefficients
    )
    return ImageHeader(ImageFormat.JPEG, frame.width, frame.height, found.pictures, memory)


def _png(reader: BoundedReader) -> ImageHeader:
    found = png.layout(reader)
    cost = decode_memory.of_mode(found.mode, transparency=found.transparency)
    if found.has_colour_key:
        cost = decode_memory.GRAY_KEY if found.mode == "L" else decode_memory.COLOUR_KEY
    return _header(ImageFormat.PNG, found.width, found.height, cost=cost, frames=found.frames)


def _tiff(reader: BoundedReader) -> ImageHeader:
    directories = tiff.open_directories(reader)
    raw = tiff.raw_kind(directories)
    if raw is not None:
        raise other_formats.raw_tiff(raw)
    page = tiff.layout(directories)
    cost = decode_memory.of_mode(mode_of_tiff(directories))
    more = page.strip_bytes + (reader.size if page.strip_bytes else 0)
    return _header(ImageFormat.TIFF, page.width, page.height, cost=cost, frames=page.pages, more_bytes=more)


def mode_of_tiff(directories: Directories) -> str:
    """Return the mode to which Pillow decodes the first page; raise UnsupportedVariant if it doesn't."""
    try:
        # Without pixels and other tags, what Pillow reads here is small.
        with TiffImageFile(io.BytesIO(tiff.essentials(directories))) as image:
            require_layout(image)
            return str(image.mode)
    except PARSER_ERRORS as error:
        raise UnsupportedVariant(tiff.unsupported(directories)) from error


def _heif(reader: BoundedReader, kind: ImageFormat) -> ImageHeader:
    info = bmff.read_heif(reader)
    if info.codec is None and info.foreign_codecs:
        codec = info.foreign_codecs[0].decode("latin-1")
        raise UnsupportedVariant(f"its codec is {codec!r}; convert it to HEIC (HEVC) or AVIF (AV1)")
    if info.primary_size is None:
        raise BrokenContainer("the size of the primary image is missing")
    # The brand can be a generic one, so the codec of the items decides.
    kind = {b"av01": ImageFormat.AVIF, b"hvc1": ImageFormat.HEIC}.get(info.codec or b"", kind)
    width, height = info.primary_size
    cost = decode_memory.AVIF if kind is ImageFormat.AVIF else decode_memory.HEIC
    frames = max(info.images, bmff.sequence_frames(reader))
    # The decoders read the whole file into memory.
    return _header(kind, width, height, cost=cost, frames=frames, more_bytes=reader.size)


def _bmp(stream: BinaryIO) -> ImageHeader:
    stream.seek(0)
    # Pillow reads only the headers and a palette of at most 256 KB. Unlike `Image.open`, this takes large images:
    # the caller checks the limit, and reports it.
    with BmpImagePlugin.BmpImageFile(stream) as image:
        return _header(ImageFormat.BMP, *image.size, cost=decode_memory.of_mode(image.mode))
