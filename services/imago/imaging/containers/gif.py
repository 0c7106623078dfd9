"""The blocks of a GIF file (GIF89a)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from imago.imaging.containers.reading import BoundedReader, BrokenContainer, Layout, LimitExceeded

MAX_BLOCKS = 40_000

_EXTENSION, _IMAGE = 0x21, 0x2C
_APPLICATION = 0xFF


@dataclass(frozen=True)
class Block:
    """An image or an extension: its label (`_IMAGE` for images), and the position and end of its sub-blocks."""

    label: int
    offset: int
    end: int

    @property
    def is_image(self) -> bool:
        """Whether the block is an image."""
        return self.label == _IMAGE

    @property
    def is_application(self) -> bool:
        """Whether the block belongs to an application, which the first sub-block names."""
        return self.label == _APPLICATION


def blocks(reader: BoundedReader) -> Iterator[Block]:
    """Yield the blocks up to the trailer or the end of the file; raise LimitExceeded."""
    position = 13 + _colours(reader.read(10, 1))
    for _ in range(MAX_BLOCKS):
        head = reader.read(position, 10)
        if head[:1] == b"!" and len(head) >= 2:
            label, start = head[1], position + 2
        elif head[:1] == b"," and len(head) == 10:
            label, start = _IMAGE, position + 11 + _colours(head[9:])
        else:
            return
        position = _end(reader, start)
        yield Block(label, start, position)
    raise LimitExceeded(f"the file has more than {MAX_BLOCKS} blocks")


def layout(reader: BoundedReader) -> Layout:
    """Return the layout of a file, also of a truncated one; raise BrokenContainer if it has no image."""
    width, height = struct.unpack("<HH", reader.exactly(6, 4))
    frames = 0
    try:
        for block in blocks(reader):
            frames += block.is_image
    except LimitExceeded:
        # Only the first frame is used, and a large one can have more sub-blocks than are counted.
        return Layout(width, height, max(frames, 1))
    if not frames:
        raise BrokenContainer("the file has no image")
    return Layout(width, height, frames)


def _colours(flags: bytes) -> int:
    """Return the bytes of a colour table by its flags."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _end(reader: BoundedReader, position: int) -> int:
    """Return the position after the sub-blocks that begin at a position."""
    while size := reader.read(position, 1):
        reader.step()
        position += 1 + size[0]
        if not size[0]:
            break
    return position
