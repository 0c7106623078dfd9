"""A tolerant reader of TIFF directories (IFDs), the structure of EXIF.

piexif fails on a whole block if one entry is broken, and loads a whole TIFF file into memory; this reader does neither.
Every count, size and number of directories is limited, and only the values that can't be read are left out. Values
have piexif's types: bytes for text and blobs, a number or a tuple of numbers, and (numerator, denominator) or a tuple
of such pairs for rationals.
"""

import copy
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_ENTRIES = 1024
MAX_VALUE_BYTES = 64 * 1024

EXIF_POINTER = 0x8769
GPS_POINTER = 0x8825
MAKER_NOTE = 0x927C

# The size in bytes and struct's code of each type: TIFF 6.0, section 2, the pointers of TIFF's technical note 1 (13),
# and the UTF-8 text of EXIF 3.0 (129).
_TYPES = {
    1: (1, "B"),
    2: (1, "s"),
    3: (2, "H"),
    4: (4, "L"),
    5: (8, "LL"),
    6: (1, "b"),
    7: (1, "s"),
    8: (2, "h"),
    9: (4, "l"),
    10: (8, "ll"),
    11: (4, "f"),
    12: (8, "d"),
    13: (4, "L"),
    129: (1, "s"),
}
# BigTIFF's additions.
_BIG_TYPES = {16: (8, "Q"), 17: (8, "q"), 18: (8, "Q")}

_UNDEFINED = 7

# The maker note, and the directory of Olympus' equipment in it.
_NOT_READ = frozenset({MAKER_NOTE, 0x2010})

Tags = dict[int, Any]


@dataclass(frozen=True)
class Span:
    """The place of a value that contains directories, such as the maker note. It is not read with the others."""

    offset: int
    size: int


class NotTiff(ValueError):
    """The bytes don't begin with a TIFF header."""


@dataclass(frozen=True)
class _Entry:
    tag: int
    kind: int
    count: int
    size: int
    offset: int


class Directories:
    """The directories of a TIFF structure in a stream, which are read on demand."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._base = 0
        head = self._read(0, 16)
        orders = {b"II": "<", b"MM": ">"}
        if len(head) < 8 or head[:2] not in orders:
            raise NotTiff("no byte order")
        self._order = orders[head[:2]]
        magic = struct.unpack_from(self._order + "H", head, 2)[0]
        # 42 is TIFF and 43 is BigTIFF. 0x4f52, 0x5352 and 0x55 are raw formats with the same structure.
        self._big = magic == 43
        if self._big and len(head) < 16:
            raise NotTiff("a truncated BigTIFF header")
        self._first = struct.unpack_from(self._order + ("Q" if self._big else "L"), head, 8 if self._big else 4)[0]

    def read(self) -> tuple[Tags, Tags, Tags]:
        """Return the tags of the main, the EXIF and the GPS directory; empty if one is missing or unreadable."""
        main = self._directory(self._first)
        exif, gps = (self._pointed(main, pointer) for pointer in (EXIF_POINTER, GPS_POINTER))
        # Some writers put the pointer to the GPS directory into the EXIF directory.
        return main, exif, gps or self._pointed(exif, GPS_POINTER)

    def nested(self, offset: int, wanted: frozenset[int], *, base: int = 0, order: str | None = None) -> Tags:
        """Return the wanted tags of a directory of a maker note, which begins at `offset`.

        Its offsets count from `base`, and its byte order (`<` or `>`) is its own or that of the file. A directory in a
        value has the place of the value, a `Span`.
        """
        note = copy.copy(self)
        note._base, note._order, note._big = base, order or self._order, False
        return note._values(entry for entry in note._entries(offset - base) if entry.tag in wanted)

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Return at most `MAX_VALUE_BYTES` bytes; fewer at the end of the stream."""
        return self._read(offset, min(size, MAX_VALUE_BYTES))

    @property
    def order(self) -> str:
        """The byte order, `<` or `>`."""
        return self._order

    def plausible(self) -> bool:
        """Return whether every entry of the three directories is within the stream, so that piexif is safe to use."""
        length = self._stream.seek(0, 2)
        offsets = [self._first]
        for offset in offsets:
            for entry in self._entries(offset):
                if entry.kind not in _TYPES or entry.size > MAX_VALUE_BYTES * 256:
                    return False
                if entry.size > 4 and entry.offset + entry.size > length:
                    return False
                if entry.tag in (EXIF_POINTER, GPS_POINTER):
                    target = self._value(entry)
                    if not isinstance(target, int) or target in offsets or len(offsets) > 4:
                        return False
                    offsets.append(target)
        return True

    def _pointed(self, tags: Tags, pointer: int) -> Tags:
        offset = tags.get(pointer)
        return self._directory(offset) if isinstance(offset, int) and offset else {}

    def _directory(self, offset: int) -> Tags:
        return self._values(self._entries(offset))

    def _values(self, entries: Iterable[_Entry]) -> Tags:
        tags: Tags = {}
        for entry in entries:
            try:
                value = self._value(entry)
            except (struct.error, ValueError, OverflowError):
                continue
            if value is not None:
                tags.setdefault(entry.tag, value)
        return tags

    def _entries(self, offset: int) -> Iterator[_Entry]:
        count_code, size, code, inline = ("Q", 20, "HHQ", 8) if self._big else ("H", 12, "HHL", 4)
        count_bytes = self._read(offset, struct.calcsize(self._order + count_code))
        if len(count_bytes) < struct.calcsize(self._order + count_code):
            return
        count = min(struct.unpack(self._order + count_code, count_bytes)[0], MAX_ENTRIES)
        start = offset + len(count_bytes)
        table = self._read(start, count * size)
        types = {**_TYPES, **_BIG_TYPES} if self._big else _TYPES
        for index in range(len(table) // size):
            tag, kind, number = struct.unpack_from(self._order + code, table, index * size)
            at = index * size + size - inline
            width = types.get(kind, (1, ""))[0] * number
            where = start + at
            if width > inline:
                where = struct.unpack_from(self._order + ("Q" if self._big else "L"), table, at)[0]
            yield _Entry(tag, kind, number, width, where)

    def _value(self, entry: _Entry) -> Any:
        types = {**_TYPES, **_BIG_TYPES}
        if entry.kind not in types or entry.count == 0:
            return None
        if entry.tag in _NOT_READ and entry.kind == _UNDEFINED:
            return Span(entry.offset + self._base, entry.size)
        width, code = types[entry.kind]
        if entry.size > MAX_VALUE_BYTES and code != "s":
            return None
        data = self._read(entry.offset, min(entry.size, MAX_VALUE_BYTES))
        if code == "s":
            return data
        count = len(data) // width
        if count == 0:
            return None
        numbers = struct.unpack_from(self._order + code * count, data)
        values = tuple(zip(numbers[::2], numbers[1::2], strict=True)) if len(code) == 2 else numbers
        return values[0] if len(values) == 1 else values

    def _read(self, offset: int, length: int) -> bytes:
        offset += self._base
        if offset < 0 or offset > 2**62:
            return b""
        self._stream.seek(offset)
        return self._stream.read(length)
