"""Makers whose notes need no more than a table: where the directory is, and which tag holds what."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imago.imaging.containers.ifd import Tags, byte_order
from imago.imaging.metadata.exif.exposure import sensitivity
from imago.imaging.metadata.exif.lens import lens_name, specification
from imago.imaging.metadata.exif.makernotes.note import MakerNote, Note
from imago.imaging.metadata.exif.values import positive

# Codes of Pentax and of Casio.
_PENTAX_ISO = {3: 50, 4: 64, 5: 80, 6: 100, 7: 125, 8: 160, 9: 200, 10: 250, 11: 320, 12: 400, 13: 500, 14: 640}
_PENTAX_ISO |= {15: 800, 16: 1000, 17: 1250, 18: 1600, 19: 2000, 20: 2500, 21: 3200}
_CASIO_ISO = {3: 50, 4: 64, 6: 100, 9: 200}

_KODAK_ISO_AT = 0x60


def read(note: Note) -> MakerNote | None:
    """Return the fields of the other makers' cameras; None for unknown ones."""
    head = note.head()
    for reader in _READERS:
        if (reader.mark and head.startswith(reader.mark)) or (not reader.mark and note.make.startswith(reader.make)):
            return reader.read(note)
    return None


@dataclass(frozen=True)
class _Reader:
    read: Callable[[Note], MakerNote]
    mark: bytes = b""
    make: str = ""


def _panasonic(note: Note) -> MakerNote:
    return MakerNote(lens_name(note.tags(12, frozenset({0x0051})).get(0x0051)))


def _leica(note: Note) -> MakerNote:
    # The offsets count from the note in some cameras and from the file in others. Only one of them leads to a text.
    found = (note.tags(8, frozenset({0x0303}), base=base).get(0x0303) for base in (note.start, 0))
    return MakerNote(next((name for name in map(lens_name, found) if name and name.isascii()), None))


def _sony(note: Note) -> MakerNote:
    return MakerNote(_sony_lens(note.tags(12, frozenset({0xB02A})).get(0xB02A)))


def _sony_lens(value: Any) -> str | None:
    """Return the specification: decimal digits in hexadecimal, with a byte of features before and after them."""
    raw = bytes(value) if isinstance(value, tuple) and all(0 <= part < 256 for part in value) else value
    if not isinstance(raw, bytes) or len(raw) != 8 or not raw[1:7].hex().isdecimal():
        return None
    digits = raw[1:7].hex()
    apertures = (int(digits[8:10]) / 10, int(digits[10:12]) / 10)
    return specification(int(digits[:4]), int(digits[4:8]), *apertures)


def _fujifilm(note: Note) -> MakerNote:
    head = note.head()
    if len(head) < 12:
        return MakerNote()
    (offset,) = struct.unpack_from("<L", head, 8)
    tags = note.tags(offset, frozenset(range(0x1404, 0x1408)), base=note.start, order="<")
    return MakerNote(specification(*(positive(tags.get(tag), limit=100_000) for tag in range(0x1404, 0x1408))))


def _pentax(note: Note) -> MakerNote:
    head = note.head()
    if head.startswith(b"PENTAX \0"):
        tags = note.tags(10, frozenset({0x0014}), base=note.start, order=byte_order(head[8:10]))
    else:
        tags = note.tags(6 if head.startswith(b"AOC\0") else 0, frozenset({0x0014}), order=byte_order(head[4:6]))
    return _coded_iso(tags, _PENTAX_ISO)


def _casio(note: Note) -> MakerNote:
    if not note.head().startswith(b"QVC\0"):
        return _coded_iso(note.tags(0, frozenset({0x0014})), _CASIO_ISO)
    tags = note.tags(6, frozenset({0x0014, 0x3014}))
    return MakerNote(iso=sensitivity(tags.get(0x3014))) if 0x3014 in tags else _coded_iso(tags, _CASIO_ISO)


def _coded_iso(tags: Tags, codes: dict[int, int]) -> MakerNote:
    number = sensitivity(tags.get(0x0014))
    # Codes are below every sensitivity of a camera.
    return MakerNote(iso=codes.get(number, number if number >= 50 else None) if number else None)


def _kodak(note: Note) -> MakerNote:
    order = ">" if note.head().startswith(b"KDK INFO") else "<"
    raw = note.directories.bytes_at(note.start + 8 + _KODAK_ISO_AT, 2)
    number = struct.unpack(order + "H", raw)[0] if len(raw) == 2 else 0
    return MakerNote(iso=number if 0 < number < 65535 else None)


_READERS = (
    _Reader(_panasonic, mark=b"Panasonic\0"),
    _Reader(_leica, mark=b"LEICA\0"),
    _Reader(_sony, mark=b"SONY "),
    _Reader(_fujifilm, mark=b"FUJIFILM"),
    _Reader(_pentax, mark=b"AOC\0"),
    _Reader(_pentax, mark=b"PENTAX \0"),
    _Reader(_pentax, make="ASAHI"),
    _Reader(_casio, mark=b"QVC\0"),
    _Reader(_casio, make="CASIO"),
    _Reader(_kodak, mark=b"KDK"),
)
