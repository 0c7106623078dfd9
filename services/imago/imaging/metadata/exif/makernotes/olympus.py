"""Olympus and OM System: the lens is in a directory of the equipment."""

from typing import Any

from imago.imaging.containers.ifd import Span, Tags, byte_order
from imago.imaging.metadata.exif.lens import lens_name, specification
from imago.imaging.metadata.exif.makernotes.note import MakerNote, Note

_EQUIPMENT = 0x2010
_LENS_MODEL, _WIDEST, _WIDEST_AT_LONGEST, _SHORTEST, _LONGEST = 0x0203, 0x0205, 0x0206, 0x0207, 0x0208
_WANTED = frozenset({_LENS_MODEL, _WIDEST, _WIDEST_AT_LONGEST, _SHORTEST, _LONGEST})


def read(note: Note) -> MakerNote | None:
    """Return the fields of an Olympus camera; None for others."""
    head = note.head(16)
    if head.startswith(b"OLYMP\0"):
        return MakerNote(_lens(note, 8, base=0, order=None))
    if head.startswith(b"OLYMPUS\0"):
        return MakerNote(_lens(note, 12, base=note.start, order=byte_order(head[8:10])))
    if head.startswith(b"OM SYSTEM\0"):
        return MakerNote(_lens(note, 16, base=note.start, order=byte_order(head[12:14])))
    return None


def _lens(note: Note, skip: int, *, base: int, order: str | None) -> str | None:
    place = note.tags(skip, frozenset({_EQUIPMENT}), base=base, order=order).get(_EQUIPMENT)
    if isinstance(place, Span):
        start = place.offset
    elif isinstance(place, int) and place:
        start = base + place
    else:
        return None
    equipment = note.tags_at(start, _WANTED, base=base, order=order)
    return lens_name(equipment.get(_LENS_MODEL)) or _specified(equipment)


def _specified(equipment: Tags) -> str | None:
    shortest, longest = (_number(equipment.get(tag)) for tag in (_SHORTEST, _LONGEST))
    widest, at_longest = (_f_number(equipment.get(tag)) for tag in (_WIDEST, _WIDEST_AT_LONGEST))
    return specification(shortest, longest, widest, at_longest)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _f_number(value: Any) -> float | None:
    # A logarithm: 256 is a factor of the square root of two.
    return round(2 ** (value / 512), 1) if isinstance(value, int) and 0 < value < 4096 else None
