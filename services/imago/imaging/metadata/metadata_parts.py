"""Find the metadata of a file of any format: EXIF, XMP and IPTC, as bytes. Few other bytes are read.

What is broken or exceeds a limit is left out; what was found before it is returned.
"""

import binascii
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from imago.core.images.model import ImageFormat
from imago.imaging.containers import bmff, gif, jpeg, photoshop, png, webp
from imago.imaging.containers.ifd import Directories, Entry, NotTiff
from imago.imaging.containers.reading import BoundedReader, BrokenContainer
from imago.imaging.formats.header import sniff

# Files with maker notes of 10 MB exist to break readers. The tags that Imago reads come before them.
MAX_BLOCK = 2**20
# XMP larger than this holds pictures (depth maps, thumbnails).
MAX_XMP = 2 * 2**20
# All segments of a JPEG that are read.
MAX_JPEG_BYTES = 8 * 2**20

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_DIGEST_BYTES = 32
_PHOTOSHOP = (b"Photoshop 3.0\0", b"Adobe_Photoshop2.5:")

_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP = 700, 33723, 34377

# What a PNG text chunk with XMP, or with a profile that ImageMagick wrote as hexadecimal digits, is named.
_PNG_XMP = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "
# The name of the profile may have several words: `IPTC profile`.
_RAW_DIGITS = re.compile(rb"\s*\w[\w ]{0,79}\s+\d+\s+([0-9a-fA-F\s]+)")
_PNG_KEYWORD_BYTES = 80
# A compressed profile can take as long as this number of chunks.
_PROFILE_STEPS = 10_000

# XMP in a GIF ends with 258 bytes that make readers of sub-blocks skip it (XMP specification, part 3, section 1.1.2).
_GIF_XMP = b"\x0bXMP DataXMP"
_GIF_XMP_TRAILER = 258


@dataclass(frozen=True)
class MetadataParts:
    """The metadata of a file as bytes.

    `exif` begins with its byte order; it is None for TIFF, which is itself such a block: `ifd.Directories` reads the
    file in place. `xmp` has the main packet first, then the extended one if there is one. `iptc` is a sequence of
    IPTC-IIM records; `iptc_digest` is the MD5 of the records when Photoshop or the like last wrote them beside XMP.
    """

    exif: bytes | None = None
    xmp: tuple[bytes, ...] = ()
    iptc: bytes | None = None
    iptc_digest: bytes | None = None


def read_metadata(stream: BinaryIO) -> MetadataParts:
    """Return the metadata of a file; empty if it has none or is unreadable. The stream must be seekable."""
    reader = BoundedReader(stream)
    kind = sniff(reader.read(0, 256))
    found = _Found()
    if kind in _FINDERS:
        try:
            _FINDERS[kind](reader, found)
        except (BrokenContainer, NotTiff, struct.error, IndexError):
            # The parts before the broken one are valid.
            return found.parts()
    return found.parts()


@dataclass
class _Found:
    """The metadata found so far; the first of each kind counts."""

    exif: list[bytes] = field(default_factory=list)
    xmp: bytes | None = None
    extended_xmp: list[bytes] = field(default_factory=list)
    resources: list[bytes] = field(default_factory=list)
    iptc: bytes | None = None
    iptc_digest: bytes | None = None

    def parts(self) -> MetadataParts:
        exif = b"".join(self.exif).removeprefix(_EXIF)[:MAX_BLOCK] or None
        packets = tuple(packet for packet in (self.xmp, _extended_xmp(self.extended_xmp, self.xmp)) if packet)
        self.set_iptc(b"".join(self.resources)[:MAX_BLOCK])
        return MetadataParts(exif, packets, self.iptc, self.iptc_digest)

    def set_exif(self, block: bytes) -> None:
        if not self.exif:
            self.exif = [block]

    def set_xmp(self, packet: bytes) -> None:
        if self.xmp is None:
            self.xmp = packet

    def set_iptc(self, block: bytes) -> None:
        self.iptc = self.iptc or photoshop.find_iptc(block)
        self.iptc_digest = self.iptc_digest or photoshop.find_resource(block, photoshop.IPTC_DIGEST)


def _extended_xmp(pieces: list[bytes], main: bytes | None) -> bytes:
    """Return a document from its pieces: each has a digest, the whole length, and its position."""
    document, wanted = bytearray(), None
    for piece in pieces:
        digest = piece[:_DIGEST_BYTES]
        length, offset = struct.unpack_from(">II", piece, _DIGEST_BYTES)
        data = piece[_DIGEST_BYTES + 8 :]
        # The main packet names the digest of its extension.
        if wanted is None and main is not None and digest in main:
            wanted, document = digest, bytearray(min(length, MAX_XMP))
        if digest == wanted and offset + len(data) <= len(document):
            document[offset : offset + len(data)] = data
    return bytes(document)


def _in_jpeg(reader: BoundedReader, found: _Found) -> None:
    left = MAX_JPEG_BYTES
    for segment in jpeg.segments(reader):
        if segment.marker not in (jpeg.APP1, jpeg.APP13) or _is_picture(reader, segment):
            continue
        body = reader.read(segment.offset, segment.length)
        left -= len(body)
        if left < 0:
            return
        if segment.marker == jpeg.APP1:
            _add_app1(found, body)
        else:
            found.resources.extend(body.removeprefix(mark) for mark in _PHOTOSHOP if body.startswith(mark))


def _is_picture(reader: BoundedReader, segment: jpeg.Segment) -> bool:
    """Return whether a segment is a piece of an extended XMP that is too large for anything but pictures."""
    start = len(_EXTENDED_XMP)
    head = reader.read(segment.offset, min(segment.length, start + _DIGEST_BYTES + 8))
    if not head.startswith(_EXTENDED_XMP) or len(head) < start + _DIGEST_BYTES + 8:
        return False
    return bool(struct.unpack_from(">I", head, start + _DIGEST_BYTES)[0] > MAX_XMP)


def _add_app1(found: _Found, body: bytes) -> None:
    if body.startswith(_EXIF):
        block = body[len(_EXIF) :]
        # A block of more than 64 KB continues in further segments, without another byte order.
        if not found.exif or block[:2] not in (b"II", b"MM"):
            found.exif.append(block)
    elif body.startswith(_XMP):
        found.set_xmp(body[len(_XMP) :])
    elif body.startswith(_EXTENDED_XMP) and len(body) >= len(_EXTENDED_XMP) + _DIGEST_BYTES + 8:
        found.extended_xmp.append(body[len(_EXTENDED_XMP) :])


def _in_png(reader: BoundedReader, found: _Found) -> None:
    for chunk in png.chunks(reader):
        if chunk.name == b"eXIf":
            # It precedes a profile in a text chunk, which ImageMagick writes beside it.
            found.exif = [reader.read(chunk.offset, min(chunk.length, MAX_BLOCK))]
        elif chunk.name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = reader.read(chunk.offset, min(chunk.length, _PNG_KEYWORD_BYTES)).partition(b"\0")[0]
            if keyword == _PNG_XMP or keyword.startswith(_RAW_PROFILE):
                reader.step(_PROFILE_STEPS)
                body = reader.read(chunk.offset + len(keyword) + 1, min(chunk.length, 3 * MAX_BLOCK))
                text = _png_text(chunk.name, body[: max(0, chunk.length - len(keyword) - 1)])
                _add_png_text(found, keyword, text)


def _png_text(name: bytes, body: bytes) -> bytes:
    """Return the text that follows the keyword, decompressed up to a limit; empty if it is broken."""
    compressed = name == b"zTXt"
    if name == b"iTXt":
        compressed = body[:1] == b"\x01"
        # The compression method, the language and the translated keyword.
        body = b"\0" + [*body[2:].split(b"\0", 2), b"", b""][2]
    if not compressed:
        return body[1:] if name == b"iTXt" else body
    try:
        return zlib.decompressobj().decompress(body[1:], 3 * MAX_BLOCK)
    except zlib.error:
        return b""


def _add_png_text(found: _Found, keyword: bytes, text: bytes) -> None:
    if keyword == _PNG_XMP:
        found.set_xmp(text[:MAX_XMP])
        return
    profile = _raw_profile(text)
    match keyword.removeprefix(_RAW_PROFILE):
        case b"exif" | b"APP1" if not profile.startswith(_XMP):
            found.set_exif(profile)
        case b"APP1" | b"xmp":
            found.set_xmp(profile.removeprefix(_XMP)[:MAX_XMP])
        case b"iptc" | b"8bim":
            found.set_iptc(profile)


def _raw_profile(text: bytes) -> bytes:
    """Return a profile that ImageMagick wrote as a name, a length and hexadecimal digits; empty if it is broken."""
    match = _RAW_DIGITS.match(text)
    try:
        return binascii.unhexlify(b"".join(match[1].split())) if match else b""
    except binascii.Error:
        return b""


def _in_webp(reader: BoundedReader, found: _Found) -> None:
    for chunk in webp.chunks(reader):
        if chunk.name == b"EXIF":
            found.set_exif(reader.read(chunk.offset, min(chunk.length, MAX_BLOCK)))
        elif chunk.name == b"XMP ":
            found.set_xmp(reader.read(chunk.offset, min(chunk.length, MAX_XMP)))


def _in_gif(reader: BoundedReader, found: _Found) -> None:
    for block in gif.blocks(reader):
        if block.is_application and reader.read(block.offset, len(_GIF_XMP)) == _GIF_XMP:
            start = block.offset + len(_GIF_XMP)
            found.set_xmp(reader.read(start, max(0, min(block.end - _GIF_XMP_TRAILER - start, MAX_XMP))))


def _in_heif(reader: BoundedReader, found: _Found) -> None:
    info = bmff.read_heif(reader)
    for item, kind in info.types.items():
        if kind == b"Exif" and not found.exif:
            data = bmff.read_item(reader, info, item, limit=MAX_BLOCK)
            # The item begins with the offset of the TIFF header, often with an "Exif\0\0" in between.
            start = 4 + int.from_bytes(data[:4], "big")
            found.set_exif(data[start:] if data[start : start + 2] in (b"II", b"MM") else data[4:])
        elif info.content_types.get(item) == b"application/rdf+xml" and found.xmp is None:
            found.set_xmp(bmff.read_item(reader, info, item, limit=MAX_XMP))


def _in_tiff(reader: BoundedReader, found: _Found) -> None:
    directories = Directories(reader)
    for entry in directories.entries(directories.first):
        if entry.tag == _TIFF_XMP:
            found.set_xmp(directories.blob(entry, limit=MAX_XMP))
        elif entry.tag == _TIFF_IPTC:
            found.set_iptc(_in_file_order(directories, entry))
        elif entry.tag == _TIFF_PHOTOSHOP:
            found.resources = [directories.blob(entry, limit=MAX_BLOCK)]


def _in_file_order(directories: Directories, entry: Entry) -> bytes:
    """Return records of IPTC; some writers store them as numbers, whose bytes are in the order of the machine."""
    data = directories.blob(entry, limit=MAX_BLOCK)
    if data[:1] == b"\x1c" or data[3:4] != b"\x1c":
        return data
    count = len(data) // 4
    return struct.pack(f">{count}I", *struct.unpack_from(f"<{count}I", data))


_FINDERS: dict[ImageFormat | None, Callable[[BoundedReader, _Found], None]] = {
    ImageFormat.JPEG: _in_jpeg,
    ImageFormat.PNG: _in_png,
    ImageFormat.WEBP: _in_webp,
    ImageFormat.GIF: _in_gif,
    ImageFormat.HEIC: _in_heif,
    ImageFormat.AVIF: _in_heif,
    ImageFormat.TIFF: _in_tiff,
}
