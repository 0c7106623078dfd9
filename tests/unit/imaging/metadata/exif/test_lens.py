"""The lens is its name, or its specification as lenses are named."""

import pytest

from imago.imaging.metadata.exif import parse
from tests.support.exif_blocks import DOUBLE, RATIONAL, Value, exif, numbers, rational, text

SPECIFICATION, MODEL, DNG_LENS = 0xA432, 0xA434, 0xC630
UNKNOWN = (0, 0)


def pairs(*values: float | tuple[int, int]) -> Value:
    return numbers(RATIONAL, *(value if isinstance(value, tuple) else (round(value * 10), 10) for value in values))


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (pairs(18, 55, 3.5, 5.6), "18-55mm f/3.5-5.6"),
        (pairs(24, 70, 2.8, 2.8), "24-70mm f/2.8"),
        (pairs(50, 50, 1.8, 1.8), "50mm f/1.8"),
        (pairs(18, 55, UNKNOWN, UNKNOWN), "18-55mm"),
        (pairs(18, 55, 3.5, UNKNOWN), "18-55mm f/3.5"),
        (pairs(18, 55, UNKNOWN, 5.6), "18-55mm"),
        (pairs(50, UNKNOWN, 1.8, UNKNOWN), "50mm f/1.8"),
        (pairs(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN), None),
        (pairs(0, 0, 0, 0), None),
        (numbers(DOUBLE, 4.15, 4.15, 2.2, 2.2), "4.15mm f/2.2"),
        (pairs(18, 55, 3.5), None),
        (rational(0.7, 0.7, 0.95, 0.95), "0.7mm f/0.95"),
    ],
)
@pytest.mark.parametrize("place", ["exif", "main", "dng"])
def test_a_specification_is_shown_as_lenses_are_named(value: Value, right: str | None, place: str) -> None:
    block = {
        "exif": exif({}, {SPECIFICATION: value}),
        "main": exif({SPECIFICATION: value}),
        "dng": exif({DNG_LENS: value}),
    }[place]
    assert parse(block).camera.lens == right


@pytest.mark.parametrize(
    "nothing",
    ["", "   ", "----", "--", "n/a", "N/A", "None", "unknown", "Unknown (0)", "0", "0.0", "\0\0\0", "no lens"]
    + ["0.0 mm f/0.0", "0mm f/0", "0-0mm", "()", "null", "manual lens"],
)
def test_a_placeholder_is_no_name(nothing: str) -> None:
    assert parse(exif({}, {MODEL: text(nothing)})).camera.lens is None
    specified = exif({}, {MODEL: text(nothing), SPECIFICATION: pairs(18, 55, 3.5, 5.6)})
    assert parse(specified).camera.lens == "18-55mm f/3.5-5.6"


@pytest.mark.parametrize("name", ["EF-S18-55mm f/3.5-5.6 IS", "Nokton 40mm", "E 18-55mm F3.5-5.6 OSS", "XF35mmF1.4 R"])
def test_a_name_comes_before_the_specification(name: str) -> None:
    values = {MODEL: text(f"  {name}  \0 "), SPECIFICATION: pairs(18, 55, 3.5, 5.6)}
    assert parse(exif({}, values)).camera.lens == name
    assert parse(exif({MODEL: text(name)})).camera.lens == name
