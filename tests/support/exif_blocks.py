"""EXIF blocks made of single values, of types and bytes that no library would write."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ASCII, BYTE, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE, UTF8 = 2, 1, 3, 4, 5, 7, 10, 12, 129

_CODES = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "II", SRATIONAL: "ii", DOUBLE: "d"}

EXIF_POINTER, GPS_POINTER, MAKER_NOTE = 0x8769, 0x8825, 0x927C


@dataclass(frozen=True)
class Value:
    """A value of a type, and its number of elements."""

    kind: int
    count: int
    data: bytes


def text(value: str | bytes, *, kind: int = ASCII) -> Value:
    """Return a text, which ends with a NUL."""
    data = (value.encode() if isinstance(value, str) else value) + b"\0"
    return Value(kind, len(data), data)


def numbers(kind: int, *values: float | tuple[int, int], order: str = "<") -> Value:
    """Return numbers; those of rationals are pairs."""
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return Value(kind, len(values), struct.pack(order + _CODES[kind] * len(values), *flat))


def rational(*values: float) -> Value:
    """Return rationals, signed if one is negative."""
    pairs = [(round(value * 10_000), 10_000) for value in values]
    return numbers(SRATIONAL if min(values) < 0 else RATIONAL, *pairs)


def raw(data: bytes, *, kind: int = UNDEFINED) -> Value:
    """Return bytes."""
    return Value(kind, len(data), data)


def directory(values: Mapping[int, Value], at: int, *, order: str = "<") -> bytes:
    """Return a directory and its data, for the place `at` bytes after the point that offsets count from."""
    data_at, data, table = at + 2 + 12 * len(values) + 4, b"", b""
    for tag, value in values.items():
        inline = value.data.ljust(4, b"\0")
        if len(value.data) > 4:
            inline = struct.pack(order + "I", data_at + len(data))
            data += value.data
        table += struct.pack(order + "HHI", tag, value.kind, value.count) + inline
    return struct.pack(order + "H", len(values)) + table + bytes(4) + data


def exif(
    main: Mapping[int, Value] | None = None,
    exif: Mapping[int, Value] | None = None,
    gps: Mapping[int, Value] | None = None,
) -> bytes:
    """Return an EXIF block in the byte order II."""
    pointers = {EXIF_POINTER: exif, GPS_POINTER: gps}
    present = {tag: values for tag, values in pointers.items() if values}
    placed: dict[int, Value] = {tag: numbers(LONG, 0) for tag in present}
    at = 8 + len(directory({**(main or {}), **placed}, 8))
    parts: list[bytes] = []
    for tag, values in present.items():
        placed[tag] = numbers(LONG, at)
        parts.append(directory(values, at))
        at += len(parts[-1])
    return b"II*\0" + struct.pack("<I", 8) + directory({**(main or {}), **placed}, 8) + b"".join(parts)


def with_maker_note(note: bytes, *, make: str) -> bytes:
    """Return a block with a maker note."""
    return exif({0x010F: text(make)}, {MAKER_NOTE: raw(note)})


def note_at(make: str) -> int:
    """Return the place of the maker note in a block of `with_maker_note`."""
    marker = b"\xa5" * 16
    return with_maker_note(marker, make=make).index(marker)


def shorts(values: Sequence[int], order: str = "<") -> Value:
    """Return an array of SHORT."""
    return numbers(SHORT, *values, order=order)


def settings_array(length: int, values: Iterable[tuple[int, int]]) -> list[int]:
    """Return an array of zeros with some values in their places."""
    array = [0] * length
    for position, value in values:
        array[position] = value
    return array
