"""A tolerant reader of TIFF directories (IFDs), the structure of EXIF.

piexif fails on a whole block if one entry is broken, and loads a whole TIFF file into memory; this reader does neither.
Every count, size and number of directories is limited, and only the values that can't be read are left out. Values
have piexif's types: bytes for text and blobs, a number or a tuple of numbers, and (numerator, denominator) or a tuple
of such pairs for rationals.
"""

import copy
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from imago.imaging.containers.reading import BoundedReader, LimitExceeded

# libtiff reads no directory with more entries either.
MAX_ENTRIES = 4096
# The bytes of one text or blob, of one array of numbers, and of all values of a directory.
MAX_VALUE_BYTES = 64 * 1024
MAX_ARRAY_BYTES = 4096
MAX_DIRECTORY_BYTES = 2**20

EXIF_POINTER = 0x8769
GPS_POINTER = 0x8825
INTEROPERABILITY_POINTER = 0xA005
MAKER_NOTE = 0x927C

# The pointers that piexif follows, and the number of directories to which they lead with the first two.
_FOLLOWED = frozenset({EXIF_POINTER, GPS_POINTER, INTEROPERABILITY_POINTER})
_MAX_FOLLOWED = 5

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
_ALL_TYPES = {**_TYPES, **_BIG_TYPES}

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


def byte_order(mark: bytes) -> str | None:
    """Return struct's byte order of `II` or `MM`; None for anything else."""
    return {b"II": "<", b"MM": ">"}.get(mark)


@dataclass(frozen=True)
class Entry:
    """An entry of a directory: its tag, type, number of values, and the size and position of the values in bytes."""

    tag: int
    kind: int
    count: int
    size: int
    offset: int


class Directories:
    """The directories of a TIFF structure in a stream, which are read on demand.

    A BoundedReader may be passed to share its limits.
    """

    def __init__(self, stream: BinaryIO | BoundedReader) -> None:
        self._reader = stream if isinstance(stream, BoundedReader) else BoundedReader(stream)
        self._base = 0
        head = self._reader.read(0, 16)
        self.mark, order = head[:2], byte_order(head[:2])
        if len(head) < 8 or order is None:
            raise NotTiff("no byte order")
        self.order = order
        magic = struct.unpack_from(self.order + "H", head, 2)[0]
        # 42 is TIFF and 43 is BigTIFF. 0x4f52, 0x5352 and 0x55 are raw formats with the same structure.
        self._big = magic == 43
        if self._big and len(head) < 16:
            raise NotTiff("a truncated BigTIFF header")
        self.first: int = struct.unpack_from(self.order + ("Q" if self._big else "L"), head, 8 if self._big else 4)[0]
        """The position of the main directory."""

    def read(self) -> tuple[Tags, Tags, Tags]:
        """Return the tags of the main, the EXIF and the GPS directory; empty if one is missing or unreadable."""
        main = self.main()
        exif, gps = (self._pointed(main, pointer) for pointer in (EXIF_POINTER, GPS_POINTER))
        # Some writers put the pointer to the GPS directory into the EXIF directory.
        return main, exif, gps or self._pointed(exif, GPS_POINTER)

    def main(self) -> Tags:
        """Return the tags of the main directory."""
        return self.directory(self.first)

    def plausible(self) -> bool:
        """Return whether all values of the directories that piexif follows fit into the stream, so that it is safe.

        Those are the main directory, the next one, and the EXIF, GPS and interoperability directories.
        """
        if self._big:
            # piexif reads it as a TIFF, whose entries are elsewhere.
            return False
        offsets, left = [self.first, *filter(None, [self.following(self.first)])], self._reader.size
        for offset in offsets:
            if self.entry_count(offset) > MAX_ENTRIES or len(offsets) > _MAX_FOLLOWED:
                return False
            for entry in self.entries(offset):
                left -= entry.size
                if left < 0 or entry.kind not in _TYPES:
                    return False
                if entry.size > 4 and entry.offset + entry.size > self._reader.size:
                    return False
                if entry.tag in _FOLLOWED:
                    target = self.value(entry)
                    if not isinstance(target, int) or target in offsets:
                        return False
                    offsets.append(target)
        return True

    def nested(self, offset: int, wanted: frozenset[int], *, base: int = 0, order: str | None = None) -> Tags:
        """Return the wanted tags of a directory of a maker note, which begins at `offset`.

        The offsets in it count from `base`, and its byte order (`<` or `>`) is its own or that of the file.
        """
        note = copy.copy(self)
        note._base, note.order, note._big = base, order or self.order, False
        return note.directory(offset - base, wanted)

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Return at most `MAX_VALUE_BYTES` bytes; fewer at the end of the stream."""
        return self._read(offset, min(size, MAX_VALUE_BYTES))

    def directory(self, offset: int, wanted: frozenset[int] | None = None) -> Tags:
        """Return the tags of a directory, or the wanted ones; the values that can't be read are left out."""
        tags: Tags = {}
        left = MAX_DIRECTORY_BYTES
        try:
            for entry in self.entries(offset):
                if wanted is not None and entry.tag not in wanted:
                    continue
                left -= min(entry.size, MAX_VALUE_BYTES)
                value = self.value(entry) if left >= 0 else None
                if value is not None:
                    tags.setdefault(entry.tag, value)
        except LimitExceeded:
            # What has been read is complete.
            return tags
        return tags

    def entries(self, offset: int) -> Iterator[Entry]:
        """Yield the entries of a directory without their values, at most `MAX_ENTRIES`."""
        size, code, inline = (20, "HHQ", 8) if self._big else (12, "HHL", 4)
        count, start = self._count(offset)
        table = self._read(start, min(count, MAX_ENTRIES) * size)
        types = _ALL_TYPES if self._big else _TYPES
        for index in range(len(table) // size):
            self._reader.step()
            tag, kind, number = struct.unpack_from(self.order + code, table, index * size)
            at = index * size + size - inline
            width = types.get(kind, (1, ""))[0] * number
            where = start + at
            if width > inline:
                where = struct.unpack_from(self.order + ("Q" if self._big else "L"), table, at)[0]
            yield Entry(tag, kind, number, width, where)

    def entry_count(self, offset: int) -> int:
        """Return the number of entries that a directory claims to have."""
        return self._count(offset)[0]

    def following(self, offset: int) -> int | None:
        """Return the position of the directory after this one, 0 after the last one; None if the file ends in it."""
        count, start = self._count(offset)
        code, size = ("Q", 20) if self._big else ("L", 12)
        width = struct.calcsize(self.order + code)
        data = self._read(start + count * size, width)
        # A directory has at least one entry (TIFF 6.0, section 2).
        return None if not count or len(data) < width else struct.unpack(self.order + code, data)[0]

    def value(self, entry: Entry) -> Any:
        """Return the value of an entry, or its place (`Span`) if it contains directories.

        None if it has an unknown type, is too large, or is outside of the file.
        """
        if entry.kind not in _ALL_TYPES or entry.count == 0:
            return None
        if entry.tag in _NOT_READ and entry.kind == _UNDEFINED:
            return Span(entry.offset + self._base, entry.size)
        width, code = _ALL_TYPES[entry.kind]
        if code != "s" and entry.size > MAX_ARRAY_BYTES:
            return None
        data = self._read(entry.offset, min(entry.size, MAX_VALUE_BYTES))
        if code == "s":
            return data
        count = len(data) // width
        if count == 0:
            return None
        numbers = struct.unpack_from(self.order + code * count, data)
        values = tuple(zip(numbers[::2], numbers[1::2], strict=True)) if len(code) == 2 else numbers
        return values[0] if len(values) == 1 else values

    def blob(self, entry: Entry, *, limit: int) -> bytes:
        """Return the bytes of an entry's values, whatever their type, at most `limit`."""
        return self._read(entry.offset, min(entry.size, limit))

    def _pointed(self, tags: Tags, pointer: int) -> Tags:
        offset = tags.get(pointer)
        return self.directory(offset) if isinstance(offset, int) and offset else {}

    def _count(self, offset: int) -> tuple[int, int]:
        code = self.order + ("Q" if self._big else "H")
        width = struct.calcsize(code)
        data = self._read(offset, width)
        return (struct.unpack(code, data)[0], offset + width) if len(data) == width else (0, offset)

    def _read(self, offset: int, length: int) -> bytes:
        offset += self._base
        return self._reader.read(offset, length) if 0 <= offset <= 2**62 else b""
