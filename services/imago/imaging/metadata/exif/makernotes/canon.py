"""Canon: a plain directory. Most numbers are in two arrays of SHORT."""

import functools
import re
import struct
from collections.abc import Mapping
from typing import Any

from imago.imaging.containers.ifd import byte_order
from imago.imaging.metadata.exif.lens import lens_name, specification
from imago.imaging.metadata.exif.makernotes.note import MakerNote, Note

_SETTINGS, _SHOT, _LENS_MODEL = 0x0001, 0x0004, 0x0095
_WANTED = frozenset({_SETTINGS, _SHOT, _LENS_MODEL})

# Positions in the arrays.
_ISO, _LENS, _LONGEST, _SHORTEST, _UNITS = 16, 22, 23, 24, 25
_AUTO_ISO, _BASE_ISO = 1, 2

_ISO_CODES = {16: 50, 17: 100, 18: 200, 19: 400, 20: 800}
_ISO_FLAG = 0x4000

_FOCAL_LENGTHS = re.compile(r"([0-9.]+)(?:-([0-9.]+))?mm")


def read(note: Note) -> MakerNote | None:
    """Return the fields of a Canon camera; None for others."""
    if not note.make.startswith("CANON"):
        return None
    tags = note.tags(0, _WANTED, base=_base(note))
    settings = _array(tags.get(_SETTINGS))
    lens = lens_name(tags.get(_LENS_MODEL)) or _lens(settings)
    return MakerNote(lens, _iso(settings, _array(tags.get(_SHOT))))


def _base(note: Note) -> int:
    """Return the number of bytes by which a program moved the note: its last eight bytes hold its first place."""
    footer = note.directories.bytes_at(note.start + note.size - 8, 8)
    order = byte_order(footer[:2])
    if len(footer) < 8 or order is None:
        return 0
    magic, original = struct.unpack(order + "HL", footer[2:])
    return note.start - original if magic == 42 and original else 0


def _array(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) and all(isinstance(part, int) for part in value) else ()


def _at(array: tuple[int, ...], position: int) -> int:
    return array[position] if position < len(array) else 0


def _iso(settings: tuple[int, ...], shot: tuple[int, ...]) -> int | None:
    code = _at(settings, _ISO)
    if code & _ISO_FLAG and code < 2 * _ISO_FLAG:
        return code - _ISO_FLAG or None
    if code in _ISO_CODES:
        return _ISO_CODES[code]
    # Automatic: both are logarithms, of a factor in percent and of the sensitivity.
    factor, base = _signed(_at(shot, _AUTO_ISO)), _signed(_at(shot, _BASE_ISO))
    if not base or max(abs(factor), abs(base)) > 1000:
        return None
    return int(2 ** (factor / 32) * 2 ** (base / 32) * 100 / 32 + 0.5) or None


def _signed(number: int) -> int:
    return number - 2**16 if number >= 2**15 else number


def _lens(settings: tuple[int, ...]) -> str | None:
    units = _at(settings, _UNITS) or 1
    shortest, longest = _at(settings, _SHORTEST) / units, _at(settings, _LONGEST) / units
    name = _names().get(_at(settings, _LENS))
    return name if name and _fits(name, shortest, longest) else specification(round(shortest, 1), round(longest, 1))


def _fits(name: str, shortest: float, longest: float) -> bool:
    """Return whether the focal lengths are those of the name: other makers' lenses have numbers of Canon's lenses."""
    match = _FOCAL_LENGTHS.search(name)
    return match is not None and (float(match[1]), float(match[2] or match[1])) == (
        shortest,
        longest,
    )


@functools.cache
def _names() -> Mapping[int, str]:
    """Return the names of the lenses by their numbers, from exifread, which omits numbers of several lenses."""
    from exifread.tags.makernote.canon import OFFSET_TAGS

    names = OFFSET_TAGS[_SETTINGS][_LENS][1]
    return names if isinstance(names, dict) else {}
