"""Maker notes: what makers write in proprietary formats. They are read only for what the standard tags lack.

The forms are not published. What is read here is known from many cameras (https://exiftool.org/TagNames/ describes it)
and is bounded: a wanted tag of one or two directories, no names that need a decryption.
"""

import struct

from imago.imaging.containers.ifd import Directories, Span
from imago.imaging.metadata.exif.makernotes import canon, nikon, olympus, others
from imago.imaging.metadata.exif.makernotes.note import MakerNote, Note
from imago.imaging.metadata.exif.tags import Tag, TagTables
from imago.imaging.metadata.exif.values import text


def read(directories: Directories, tables: TagTables) -> MakerNote:
    """Return the lens and the sensitivity of the maker note; empty if there is none, or it is unknown or damaged."""
    span = next((value for value in tables.all(Tag.MAKER_NOTE) if isinstance(value, Span)), None)
    if span is None:
        return MakerNote()
    make = (tables.first(text, Tag.MAKE) or "").upper()
    note = Note(directories, span.offset, span.size, make)
    try:
        found = (reader.read(note) for reader in (canon, nikon, olympus, others))
        return next((fields for fields in found if fields is not None), MakerNote())
    except (struct.error, ValueError, OverflowError):
        return MakerNote()
