"""Maker notes tell the lens and the sensitivity where the standard tags don't."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.core.images.results import Camera
from imago.imaging.metadata.exif import parse
from tests.support import exif_blocks as eb
from tests.support.exif_blocks import (
    ASCII,
    BYTE,
    LONG,
    MAKER_NOTE,
    RATIONAL,
    SHORT,
    Value,
    directory,
    exif,
    note_at,
    numbers,
    raw,
    settings_array,
    shorts,
    text,
    with_maker_note,
)

CANON, NIKON = "Canon", "NIKON CORPORATION"


def camera(note: bytes, make: str) -> Camera:
    return parse(with_maker_note(note, make=make)).camera


def canon_note(
    *, order: str = "<", base: int | None = None, more: dict[int, Value] | None = None, **fields: int
) -> bytes:
    """Return a note of Canon; `base` is its own place unless it was moved."""
    places = {"iso": 16, "lens": 22, "longest": 23, "shortest": 24, "units": 25}
    array = settings_array(46, ((place, fields[name]) for name, place in places.items() if name in fields))
    shot = settings_array(34, [(1, fields.get("auto_iso", 0)), (2, fields.get("base_iso", 0))])
    values = {0x0001: shorts(array, order), 0x0004: shorts(shot, order), **(more or {})}
    return directory(values, note_at(CANON) if base is None else base, order=order)


@pytest.mark.parametrize(
    ("lens", "shortest", "longest", "units", "right"),
    [
        (48, 18, 55, 1, "Canon EF-S 18-55mm f/3.5-5.6 IS"),
        (237, 24, 105, 1, "Canon EF 24-105mm f/4L IS USM"),
        (29, 50, 50, 1, "Canon EF 50mm f/1.8 II"),
        (48, 10, 20, 1, "10-20mm"),
        (65535, 5800, 17400, 1000, "5.8-17.4mm"),
        (65535, 173, 519, 32, "5.4-16.2mm"),
        (0, 0, 0, 1, None),
        (65535, 50, 50, 0, "50mm"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_canon_lenses_have_names_or_focal_lengths(
    lens: int, shortest: int, longest: int, units: int, right: str | None, order: str
) -> None:
    note = canon_note(lens=lens, shortest=shortest, longest=longest, units=units, order=order)
    assert camera(note, CANON).lens == right


def test_canon_writes_the_name_of_newer_lenses() -> None:
    note = canon_note(lens=48, shortest=18, longest=55, units=1, more={0x0095: text("EF-S18-55mm f/3.5-5.6 IS")})
    assert camera(note, CANON).lens == "EF-S18-55mm f/3.5-5.6 IS"


@pytest.mark.parametrize(
    ("iso", "auto_iso", "base_iso", "right"),
    [(17, 0, 0, 100), (0x4000 + 3200, 0, 0, 3200), (15, 0, 128, 50), (15, 32, 128, 100), (15, 0, 0, None)]
    + [(0x7FFF, 0, 0, 16383), (0, 2**16 - 32, 160, 50), (15, 40_000, 40_000, None)],
)
def test_canon_sensitivities_are_numbers_codes_or_logarithms(
    iso: int, auto_iso: int, base_iso: int, right: int | None
) -> None:
    assert camera(canon_note(iso=iso, auto_iso=auto_iso, base_iso=base_iso), CANON).iso == right


def test_a_canon_note_that_a_program_moved_is_read_by_its_footer() -> None:
    original = 5000
    note = canon_note(lens=48, shortest=18, longest=55, units=1, base=original) + b"II*\0" + struct.pack("<I", original)
    assert camera(note, CANON).lens == "Canon EF-S 18-55mm f/3.5-5.6 IS"


NIKON_VALUES = {0x0002: shorts([0, 400]), 0x0084: numbers(RATIONAL, (18, 1), (55, 1), (35, 10), (56, 10))}


def test_the_three_forms_of_nikon() -> None:
    newest = b"Nikon\0\x02\x10\0\0" + b"II*\0" + struct.pack("<I", 8) + directory(NIKON_VALUES, 8)
    oldest = b"Nikon\0\x01\0" + directory({0x0006: shorts([5])}, note_at(NIKON) + 8)
    plain = directory(NIKON_VALUES, note_at(NIKON))
    for note in (newest, plain):
        assert (camera(note, NIKON).lens, camera(note, NIKON).iso) == ("18-55mm f/3.5-5.6", 400)
    assert camera(oldest, NIKON).iso == 100


OLYMPUS = "OLYMPUS CORPORATION"
EQUIPMENT = {
    0x0203: text("OLYMPUS M.14-42mm F3.5-5.6 II R"),
    0x0205: shorts([925]),
    0x0206: shorts([1273]),
    0x0207: shorts([14]),
    0x0208: shorts([42]),
}


@pytest.mark.parametrize(
    ("head", "skip"), [(b"OLYMPUS\0II\x03\0", 12), (b"OM SYSTEM\0\0\0II\x04\0", 16), (b"OLYMP\0\x02\0", 8)]
)
@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_olympus_lenses_are_in_the_directory_of_the_equipment(
    head: bytes, skip: int, embedded: bool, named: bool
) -> None:
    base = note_at(OLYMPUS) if head.startswith(b"OLYMP\0") else 0
    values = {tag: value for tag, value in EQUIPMENT.items() if named or tag != 0x0203}
    at = base + skip + 2 + 12 + 4
    equipment = directory(values, at)
    place = Value(7, len(equipment), equipment) if embedded else numbers(LONG, at)
    note = head + directory({0x2010: place}, base + skip)
    note += b"" if embedded else equipment
    right = "OLYMPUS M.14-42mm F3.5-5.6 II R" if named else "14-42mm f/3.5-5.6"
    assert camera(note, OLYMPUS).lens == right


@pytest.mark.parametrize(
    ("make", "head", "tag", "value", "right"),
    [
        ("Panasonic", b"Panasonic\0\0\0", 0x0051, text("LUMIX G 20/F1.7"), "LUMIX G 20/F1.7"),
        ("SONY", b"SONY DSC \0\0\0", 0xB02A, raw(bytes.fromhex("0000180055355602")), "18-55mm f/3.5-5.6"),
        ("SONY", b"SONY DSC \0\0\0", 0xB02A, raw(bytes(8)), None),
        ("SONY", b"SONY DSC \0\0\0", 0xB02A, raw(b"\xff" * 8, kind=BYTE), None),
        ("LEICA", b"LEICA\0\x08\0", 0x0303, text("Summilux 1:1.4/35"), "Summilux 1:1.4/35"),
    ],
)
def test_lenses_of_other_makers(make: str, head: bytes, tag: int, value: Value, right: str | None) -> None:
    note = head + directory({tag: value}, note_at(make) + len(head))
    assert camera(note, make).lens == right


def test_fujifilm_writes_the_specification_of_the_lens() -> None:
    values = dict(zip(range(0x1404, 0x1408), map(eb.rational, (18, 55, 2.8, 4)), strict=True))
    note = b"FUJIFILM" + struct.pack("<I", 12) + directory(values, 12)
    assert camera(note, "FUJIFILM").lens == "18-55mm f/2.8-4"


@pytest.mark.parametrize(
    ("make", "head", "tag", "number", "right"),
    [
        ("PENTAX Corporation", b"AOC\0II", 0x0014, 9, 200),
        ("PENTAX Corporation", b"AOC\0II", 0x0014, 400, 400),
        ("Asahi Optical Co.,Ltd", b"", 0x0014, 100, 100),
        ("CASIO", b"", 0x0014, 64, 64),
        ("CASIO COMPUTER CO.,LTD", b"QVC\0\0\0", 0x3014, 50, 50),
        ("CASIO COMPUTER CO.,LTD", b"QVC\0\0\0", 0x0014, 6, 100),
        ("CASIO COMPUTER CO.,LTD", b"QVC\0\0\0", 0x3014, 0, None),
    ],
)
def test_sensitivities_of_other_makers(make: str, head: bytes, tag: int, number: int, right: int | None) -> None:
    note = head + directory({tag: shorts([number])}, note_at(make) + len(head))
    assert camera(note, make).iso == right


@pytest.mark.parametrize(("mark", "order"), [(b"KDK INFO", ">"), (b"KDK0100\0", "<")])
def test_kodak_has_a_record_without_tags(mark: bytes, order: str) -> None:
    note = mark + bytes(0x60) + struct.pack(order + "H", 160) + bytes(20)
    assert camera(note, "EASTMAN KODAK COMPANY").iso == 160


def test_the_standard_tags_come_first() -> None:
    values = {MAKER_NOTE: raw(directory(NIKON_VALUES, 0)), 0x8827: numbers(SHORT, 100), 0xA434: text("Nikkor 50")}
    standard = parse(exif({0x010F: text(NIKON)}, values)).camera
    assert (standard.lens, standard.iso) == ("Nikkor 50", 100)


NOTES = {
    CANON: canon_note(lens=48, shortest=18, longest=55, units=1, iso=17),
    NIKON: b"Nikon\0\x02\x10\0\0" + b"II*\0" + struct.pack("<I", 8) + directory(NIKON_VALUES, 8),
    OLYMPUS: b"OLYMPUS\0II\x03\0" + directory({0x2010: numbers(LONG, 30)}, 12) + directory(EQUIPMENT, 30),
    "Panasonic": b"Panasonic\0\0\0" + directory({0x0051: text("LUMIX G 20/F1.7")}, 12),
    "SONY": b"SONY DSC \0\0\0" + directory({0xB02A: raw(bytes.fromhex("0000180055355602"))}, 12),
    "FUJIFILM": b"FUJIFILM" + struct.pack("<I", 12) + directory({0x1404: eb.rational(18)}, 12),
    "PENTAX": b"AOC\0II" + directory({0x0014: shorts([9])}, 6),
    "CASIO": b"QVC\0\0\0" + directory({0x3014: shorts([50])}, 6),
    "LEICA": b"LEICA\0\x08\0" + directory({0x0303: Value(ASCII, 4, b"abc\0")}, 8),
    "KODAK": b"KDK INFO" + bytes(120),
}


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.data())
def test_damaged_notes_cost_only_themselves(data: st.DataObject) -> None:
    make = data.draw(st.sampled_from(sorted(NOTES)))
    note = bytearray(NOTES[make])
    for _ in range(data.draw(st.integers(1, 6))):
        note[data.draw(st.integers(0, len(note) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(note)))
    found = camera(bytes(note[:cut]), make)
    assert found.make == make
    assert found.iso is None or 0 < found.iso < 10_000_000
    assert found.lens is None or 0 < len(found.lens) <= 256


def test_a_note_that_claims_a_huge_directory_is_bounded() -> None:
    note = b"\xff\x00" + b"\x01\x00\x03\x00\xff\xff\xff\x0f\x00\x00\x00\x00" * 255
    assert camera(note, CANON).make == CANON
