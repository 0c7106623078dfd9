"""The chunks of a PNG file (ISO/IEC 15948)."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imago.imaging.containers.reading import (
    MAX_CHUNKS,
    BoundedReader,
    BrokenContainer,
    Chunk,
    LimitExceeded,
    UnsupportedVariant,
)

# The bit depths of each colour type.
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}

# Pillow's mode of each colour type.
_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}

_NAME = re.compile(rb"[A-Za-z]{4}")
_IHDR_BYTES = 13


@dataclass(frozen=True)
class Layout:
    """Size in pixels, bits of a sample, colour type, whether a colour is transparent, and the number of frames."""

    width: int
    height: int
    bits: int
    colour_type: int
    transparency: bool
    frames: int

    @property
    def mode(self) -> str:
        """The mode to which Pillow decodes the image."""
        if self.colour_type == 0 and self.bits in (1, 16):
            return "1" if self.bits == 1 else "I;16"
        return _MODES[self.colour_type]

    @property
    def has_colour_key(self) -> bool:
        """Whether one colour of the samples themselves is transparent."""
        return self.transparency and self.colour_type in (0, 2)


def chunks(reader: BoundedReader) -> Iterator[Chunk]:
    """Yield the chunks up to IEND or the end of the file; raise BrokenContainer."""
    position = 8
    for _ in range(MAX_CHUNKS):
        head = reader.read(position, 8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        if _NAME.fullmatch(head, 4) is None:
            raise BrokenContainer("a chunk has an invalid name")
        chunk = Chunk(head[4:], position + 8, struct.unpack_from(">I", head)[0])
        yield chunk
        position = chunk.offset + chunk.length + 4
    raise LimitExceeded(f"the file has more than {MAX_CHUNKS} chunks")


def layout(reader: BoundedReader) -> Layout:
    """Return the layout of a file by its IHDR and acTL chunks; no other chunk is read. Raises BrokenContainer."""
    header, frames, first_frame, transparency = None, None, False, False
    for chunk in chunks(reader):
        if header is None:
            header = _header(reader, chunk)
        elif chunk.name == b"acTL" and frames is None and chunk.length >= 8:
            frames = struct.unpack(">I", reader.exactly(chunk.offset, 4))[0]
        elif chunk.name == b"fcTL":
            first_frame = True
        elif chunk.name == b"tRNS":
            transparency = True
        elif chunk.name == b"IDAT":
            # Without a frame control chunk, the image of other viewers is no frame of the animation.
            return _layout(header, 1 if not frames else frames + (not first_frame), transparency=transparency)
    raise BrokenContainer("the file ends before the image")


def _header(reader: BoundedReader, chunk: Chunk) -> bytes:
    if chunk.name == b"CgBI":
        raise UnsupportedVariant("this is a PNG optimized for iOS (CgBI), which only Apple's software reads")
    if chunk.name != b"IHDR" or chunk.length != _IHDR_BYTES:
        raise BrokenContainer("the file does not begin with its size")
    data = reader.exactly(chunk.offset - 4, 4 + _IHDR_BYTES + 4)
    if zlib.crc32(data[:-4]) != struct.unpack(">I", data[-4:])[0]:
        raise BrokenContainer("the checksum of its size is wrong")
    return data[4:-4]


def _layout(header: bytes, frames: int, *, transparency: bool) -> Layout:
    width, height, bits, colour_type, compression, filtering, interlacing = struct.unpack(">IIBBBBB", header)
    if bits not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlacing > 1:
        raise BrokenContainer("its colour type, bit depth, compression, filter or interlacing is invalid")
    return Layout(width, height, bits, colour_type, transparency, frames)
