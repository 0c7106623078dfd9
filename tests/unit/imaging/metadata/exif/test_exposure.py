"""The exposure is read from every tag that has it, in either directory."""

import pytest

from imago.imaging.metadata.exif import parse
from tests.support.exif_blocks import ASCII, BYTE, DOUBLE, LONG, RATIONAL, SHORT, Value, exif, numbers, rational, text

ISO, TYPE, STANDARD, RECOMMENDED, SPEED = 0x8827, 0x8830, 0x8831, 0x8832, 0x8833
EXPOSURE, F_NUMBER, SHUTTER_APEX, APERTURE_APEX, FOCAL_LENGTH = 0x829A, 0x829D, 0x9201, 0x9202, 0x920A


def iso(values: dict[int, Value]) -> int | None:
    return parse(exif({}, values)).camera.iso


@pytest.mark.parametrize(
    ("kind", "right"), [(None, 102400), (0, 102400), (1, 80000), (2, 102400), (3, 204800), (4, 80000), (5, 80000)]
)
def test_a_sensitivity_above_65535_is_read_from_the_tag_that_its_type_names(kind: int | None, right: int) -> None:
    values = {
        ISO: numbers(SHORT, 65535),
        STANDARD: numbers(LONG, 80000),
        RECOMMENDED: numbers(LONG, 102400),
        SPEED: numbers(LONG, 204800),
    }
    if kind is not None:
        values[TYPE] = numbers(SHORT, kind)
    assert iso(values) == right


@pytest.mark.parametrize("tag", [STANDARD, RECOMMENDED, SPEED])
@pytest.mark.parametrize("first", [{}, {ISO: numbers(SHORT, 65535)}, {ISO: numbers(SHORT, 0)}])
def test_each_of_the_larger_tags_is_enough(tag: int, first: dict[int, Value]) -> None:
    assert iso({**first, tag: numbers(LONG, 409600)}) == 409600


def test_a_full_sensitivity_without_a_larger_one_stays() -> None:
    assert iso({ISO: numbers(SHORT, 65535)}) == 65535
    assert iso({ISO: numbers(SHORT, 65535), RECOMMENDED: numbers(LONG, 100)}) == 65535


@pytest.mark.parametrize(
    "value",
    [numbers(SHORT, 200), numbers(LONG, 200), numbers(SHORT, 200, 0), numbers(SHORT, 0, 200), numbers(BYTE, 200)]
    + [numbers(DOUBLE, 200.0), text("200"), text("ISO 200"), text("２００")],
    ids=str,
)
def test_a_sensitivity_of_any_type_is_read(value: Value) -> None:
    assert iso({ISO: value}) == 200
    assert parse(exif({ISO: value})).camera.iso == 200


@pytest.mark.parametrize(
    ("number", "right"),
    [(0.95, "f/0.95"), (0.7, "f/0.7"), (1, "f/1"), (1.4, "f/1.4"), (2.8, "f/2.8"), (5.6, "f/5.6"), (22, "f/22")],
)
def test_apertures_below_one_keep_two_decimals(number: float, right: str) -> None:
    assert parse(exif({}, {F_NUMBER: rational(number)})).camera.aperture == right


def test_apex_values_count_where_only_they_exist() -> None:
    camera = parse(exif({}, {SHUTTER_APEX: rational(8), APERTURE_APEX: rational(4)})).camera
    assert (camera.shutter_speed, camera.aperture) == ("1/256", "f/4")
    unknown = {EXPOSURE: numbers(RATIONAL, (0, 0)), F_NUMBER: numbers(RATIONAL, (0, 0))}
    camera = parse(exif({}, {**unknown, SHUTTER_APEX: rational(-2), APERTURE_APEX: rational(-0.148)})).camera
    assert (camera.shutter_speed, camera.aperture) == ("4s", "f/0.95")


def test_tags_in_the_main_directory_count() -> None:
    values = {EXPOSURE: rational(0.004), F_NUMBER: rational(2.8), FOCAL_LENGTH: rational(50), ISO: numbers(SHORT, 200)}
    camera = parse(exif(values)).camera
    assert (camera.shutter_speed, camera.aperture, camera.focal_length, camera.iso) == ("1/250", "f/2.8", "50mm", 200)


def test_the_directory_of_exif_comes_first() -> None:
    assert parse(exif({F_NUMBER: rational(8)}, {F_NUMBER: rational(2.8)})).camera.aperture == "f/2.8"


@pytest.mark.parametrize("written", ["1/250", "0.004", "0,004 s"])
def test_an_exposure_time_as_text_is_read(written: str) -> None:
    value = text(written)
    assert value.kind == ASCII
    assert parse(exif({}, {EXPOSURE: value})).camera.shutter_speed == "1/250"
