"""Places are read in every form that programs write, and an altitude counts without a place."""

import pytest

from imago.imaging.metadata.exif import parse
from tests.support.exif_blocks import (
    ASCII,
    BYTE,
    DOUBLE,
    LONG,
    RATIONAL,
    SHORT,
    Value,
    exif,
    numbers,
    rational,
    raw,
    text,
)

LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE, ALTITUDE_REF, ALTITUDE = range(1, 7)


def place(latitude: Value, longitude: Value, *, references: tuple[str, str] | None = ("N", "W")):
    values = {LATITUDE: latitude, LONGITUDE: longitude}
    if references:
        values |= {LATITUDE_REF: text(references[0]), LONGITUDE_REF: text(references[1])}
    return parse(exif({}, {}, values)).gps


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (rational(51, 30, 0), rational(0, 7, 30)),
        (rational(51, 30), rational(0, 7.5)),
        (rational(51.5), rational(0.125)),
        (numbers(RATIONAL, (515, 10), (0, 0), (0, 0)), numbers(RATIONAL, (125, 1000), (0, 0), (0, 0))),
        (numbers(DOUBLE, 51.5), numbers(DOUBLE, 0.125)),
        (numbers(DOUBLE, 51.0, 30.0, 0.0), numbers(DOUBLE, 0.0, 7.0, 30.0)),
        (numbers(LONG, 51, 30, 0), numbers(LONG, 0, 7, 30)),
        (numbers(SHORT, 51, 30, 0), numbers(SHORT, 0, 7, 30)),
        (text("51,30.0N"), text("0,7.5W")),
        (text("51,30,0N"), text("0,7,30W")),
        (text("51.5"), text("0.125")),
        (text("51,5"), text("0,125")),
        (text("51,00000,30,00000,00,00000"), text("00,00000,07,00000,30,00000")),
        (text("51,30,00.00"), text("0,07,30.00")),
        (text("51° 30' 0\" N"), text("0° 7' 30\" W")),
        (text(b"51\xb0 30' 0\""), text(b"0\xb0 7' 30\"")),
        (text("51 deg 30' 0.00\""), text("0 deg 7' 30.00\"")),
        (text("N 51 30 0"), text("W 0 7 30")),
        (text("٥١٫٥".replace("٫", ".")), text("０.１２５")),
        (rational(51.5), rational(-0.125)),
    ],
    ids=str,
)
def test_a_place_is_read_from_any_number_of_rationals_or_a_text(latitude: Value, longitude: Value) -> None:
    for references in (("N", "W"), ("n", "w"), ("North", "West"), ("N \0", "W\0")):
        gps = place(latitude, longitude, references=references)
        assert (gps.latitude, gps.longitude, gps.has_gps) == (51.5, -0.125, True)


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(rational(-51.5), rational(-0.125)), (text("-51.5"), text("-0.125"))]
)
@pytest.mark.parametrize("references", [None, ("S", "W"), ("", "")])
def test_signed_degrees_need_no_reference(latitude: Value, longitude: Value, references) -> None:
    gps = place(latitude, longitude, references=references)
    assert (gps.latitude, gps.longitude) == (-51.5, -0.125)


def test_degrees_without_references_are_north_and_east() -> None:
    gps = place(rational(51, 30, 0), rational(0, 7, 30), references=None)
    assert (gps.latitude, gps.longitude) == (51.5, 0.125)


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (numbers(RATIONAL, (0, 0), (0, 0), (0, 0)), rational(7)),
        (rational(90.001), rational(7)),
        (rational(51.5), rational(180.001)),
        (numbers(RATIONAL, (2**32 - 51, 1)), rational(7)),
        (rational(1, 2, 3, 4), rational(7)),
        (text("nowhere"), rational(7)),
        (text(""), rational(7)),
        (rational(0), rational(0)),
        (numbers(DOUBLE, float("nan")), rational(7)),
        (numbers(DOUBLE, float("inf")), rational(7)),
        (raw(b"\xff" * 24), rational(7)),
    ],
    ids=str,
)
def test_what_is_no_place_is_none_and_leaves_the_altitude(latitude: Value, longitude: Value) -> None:
    gps = parse(exif({}, {}, {LATITUDE: latitude, LONGITUDE: longitude, ALTITUDE: rational(30)})).gps
    assert (gps.latitude, gps.longitude, gps.has_gps, gps.maps_url, gps.altitude) == (None, None, False, None, 30.0)


@pytest.mark.parametrize(("reference", "sign"), [(None, 1), (0, 1), (1, -1), (2, 1), (3, -1), (9, 1)])
@pytest.mark.parametrize("kind", ["byte", "undefined", "text", "short"])
def test_references_of_altitudes_are_read(reference: int | None, sign: int, kind: str) -> None:
    values = {ALTITUDE: rational(30)}
    if reference is not None:
        values[ALTITUDE_REF] = {
            "byte": numbers(BYTE, reference),
            "undefined": raw(bytes([reference])),
            "text": raw(str(reference).encode() + b"\0", kind=ASCII),
            "short": numbers(SHORT, reference),
        }[kind]
    assert parse(exif({}, {}, values)).gps.altitude == 30.0 * sign


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (rational(-30), -30.0),
        (text("-30"), -30.0),
        (text("30.5 m"), 30.5),
        (numbers(RATIONAL, (2**32 - 300, 10)), -30.0),
        (numbers(RATIONAL, (0, 0)), None),
        (numbers(RATIONAL, (2**32 - 1, 1)), -1.0),
        (numbers(RATIONAL, (2**31, 1)), None),
        (rational(0), 0.0),
    ],
)
def test_signed_and_wrapped_altitudes_are_read(value: Value, right: float | None) -> None:
    assert parse(exif({}, {}, {ALTITUDE: value})).gps.altitude == right
    if right is not None and right < 0:
        assert parse(exif({}, {}, {ALTITUDE: value, ALTITUDE_REF: numbers(BYTE, 1)})).gps.altitude == right
