"""The chunks of a WebP file (RFC 9649)."""

import struct
from collections.abc import Iterator

from imago.imaging.containers.reading import MAX_CHUNKS, BoundedReader, BrokenContainer, Chunk, Layout, LimitExceeded

_ANIMATION = 0x02
_LOSSLESS_SIGNATURE = 0x2F
_KEY_FRAME = b"\x9d\x01\x2a"


def chunks(reader: BoundedReader) -> Iterator[Chunk]:
    """Yield the chunks up to the end of the file; raise BrokenContainer."""
    position = 12
    for _ in range(MAX_CHUNKS):
        head = reader.read(position, 8)
        if len(head) < 8:
            return
        chunk = Chunk(head[:4], position + 8, struct.unpack_from("<I", head, 4)[0])
        yield chunk
        position = chunk.offset + chunk.length + (chunk.length & 1)
    raise LimitExceeded(f"the file has more than {MAX_CHUNKS} chunks")


def layout(reader: BoundedReader) -> Layout:
    """Return the layout of a file; raise BrokenContainer if it has no image."""
    head = reader.read(12, 18)
    first, data = head[:4], head[8:]
    if first == b"VP8X" and len(data) == 10:
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (4, 7))
        return Layout(width, height, _frames(reader) if data[0] & _ANIMATION else 1)
    if first == b"VP8L" and len(data) >= 5 and data[0] == _LOSSLESS_SIGNATURE:
        bits = struct.unpack_from("<I", data, 1)[0]
        return Layout((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1)
    if first == b"VP8 " and data[3:6] == _KEY_FRAME and len(data) == 10:
        width, height = struct.unpack_from("<HH", data, 6)
        return Layout(width & 0x3FFF, height & 0x3FFF, 1)
    raise BrokenContainer("the file has no image")


def _frames(reader: BoundedReader) -> int:
    frames = 0
    try:
        for chunk in chunks(reader):
            frames += chunk.name == b"ANMF"
    except LimitExceeded:
        # Only the first frame is used.
        return frames
    return frames
