"""Nikon: three forms, two of them with the same tags. The names of lenses are encrypted; their specification isn't."""

import struct

from imago.imaging.containers.ifd import byte_order
from imago.imaging.metadata.exif.exposure import sensitivity
from imago.imaging.metadata.exif.lens import specified
from imago.imaging.metadata.exif.makernotes.note import MakerNote, Note

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
    iso = tags.get(_ISO)
    # Two SHORTs, of which the second is the sensitivity.
    return MakerNote(specified(tags.get(_LENS)), sensitivity(iso[-1] if isinstance(iso, tuple) else iso))
