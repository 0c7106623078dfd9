"""Nikon: three forms, two of them with the same tags. The names of lenses are encrypted; their specification isn't."""

import struct
from typing import Any

from imago.imaging.exif.lens import specification
from imago.imaging.exif.makernotes.note import MakerNote, Note, byte_order
from imago.imaging.exif.values import positive

_ISO, _LENS = 0x0002, 0x0084
_WANTED = frozenset({_ISO, _LENS})

# The first Coolpix cameras: the sensitivity is a code.
_OLD_ISO = 0x0006
_OLD_ISO_CODES = {0: 80, 2: 160, 4: 320, 5: 100}


def read(note: Note) -> MakerNote | None:
    """Return the fields of a Nikon camera; None for others."""
    head = note.head(18)
    if head.startswith(b"Nikon\0\1"):
        code = note.tags(8, frozenset({_OLD_ISO})).get(_OLD_ISO)
        return MakerNote(iso=_OLD_ISO_CODES.get(code) if isinstance(code, int) else None)
    if head.startswith(b"Nikon\0"):
        order = byte_order(head[10:12])
        if order is None or len(head) < 18:
            return None
        (offset,) = struct.unpack_from(order + "L", head, 14)
        tags = note.tags(10 + offset, _WANTED, base=note.start + 10, order=order)
    elif note.make.startswith("NIKON"):
        tags = note.tags(0, _WANTED)
    else:
        return None
    return MakerNote(_lens(tags.get(_LENS)), _iso(tags.get(_ISO)))


def _lens(value: Any) -> str | None:
    if not isinstance(value, tuple) or len(value) != 4:
        return None
    return specification(*(positive(part, limit=100_000) for part in value))


def _iso(value: Any) -> int | None:
    # Two SHORTs, of which the second is the sensitivity.
    number = value[-1] if isinstance(value, tuple) and value else value
    return number if isinstance(number, int) and 0 < number < 10_000_000 else None
