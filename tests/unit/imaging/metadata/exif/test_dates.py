"""Dates are read in every form that can't be misread, and never replaced by the date of an edit."""

import itertools

import pytest

from imago.imaging.metadata.exif import parse
from imago.imaging.metadata.exif.dates import parse_moment
from tests.support.exif_blocks import ASCII, UTF8, Value, exif, raw, text

MODIFIED, TAKEN, DIGITIZED = 0x0132, 0x9003, 0x9004
OFFSET_TAKEN, OFFSET_DIGITIZED, SUBSECONDS_TAKEN = 0x9011, 0x9012, 0x9291
EDIT = {MODIFIED: text("2020:05:05 05:05:05")}


def taken(written: str | bytes, **others: Value) -> str | None:
    values = {TAKEN: text(written)} | {int(tag[1:], 16): value for tag, value in others.items()}
    return parse(exif(EDIT, values)).camera.taken_at


DAY_SEPARATORS, JOINS, CLOCK_SEPARATORS = (":", "-", "/", ".", ": "), (" ", "T", "  ", ", "), (":", ".")
FORMS = tuple(itertools.product(DAY_SEPARATORS, JOINS, CLOCK_SEPARATORS, (True, False), (True, False)))


def test_a_date_is_read_with_any_separators() -> None:
    for day_separator, join, clock_separator, seconds, padded in FORMS:
        day = day_separator.join(("2024", "07", "01"))
        clock = clock_separator.join([" 9" if padded else "09", "05", *(["07"] if seconds else [])])
        written = day + join + clock
        assert taken(written) == f"2024-07-01T09:05:{'07' if seconds else '00'}", written


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("2024:07:01 24:08:19", "2024-07-01T00:08:19"),
        ("2024:07:01 24:00:00", "2024-07-01T00:00:00"),
        ("2024:7:1 9:5:7", "2024-07-01T09:05:07"),
        ("2024: 7: 1  9: 5: 7", "2024-07-01T09:05:07"),
        ("2024:07:01", "2024-07-01T00:00:00"),
        ("2024:07:01   :  :  ", "2024-07-01T00:00:00"),
        ("20240701", "2024-07-01T00:00:00"),
        ("20240701T090507", "2024-07-01T09:05:07"),
        ("20240701 090507+0200", "2024-07-01T09:05:07+02:00"),
        ("2024:07:01 09:05:60", "2024-07-01T09:05:59"),
        ("2024:07:01 09:05:07 PM", "2024-07-01T21:05:07"),
        ("2024:07:01 12:05:07 am", "2024-07-01T00:05:07"),
        ("2024:07:01 09:05:07 \0\0", "2024-07-01T09:05:07"),
        ("  2024:07:01 09:05:07", "2024-07-01T09:05:07"),
        ("2024:07:01\x0009:05:07", "2024-07-01T09:05:07"),
        ("2024-07-01T09:05:07Z", "2024-07-01T09:05:07+00:00"),
        ("2024-07-01T09:05:07.250Z", "2024-07-01T09:05:07.250+00:00"),
        ("2024-07-01T09:05:07,25", "2024-07-01T09:05:07.25"),
        ("2024-07-01T09:05:07.123456789", "2024-07-01T09:05:07.123456"),
        ("2024-07-01T09:05:07.000", "2024-07-01T09:05:07"),
        ("2015-06-29T18:19:12+01:00", "2015-06-29T18:19:12+01:00"),
        ("2015-06-29T18:19+01:00", "2015-06-29T18:19:00+01:00"),
        ("2015:06:29 18:19:12 -0330", "2015-06-29T18:19:12-03:30"),
        ("2015:06:29 18:19:12+9", "2015-06-29T18:19:12+09:00"),
        ("2015:06:29 18:19:12 GMT+5:30", "2015-06-29T18:19:12+05:30"),
        ("2015:06:29 18:19:12 UTC", "2015-06-29T18:19:12+00:00"),
        ("2015:06:29 18:19:12+15:00", "2015-06-29T18:19:12"),
        ("2024:07:01 09:05:07 summer time", "2024-07-01T09:05:07"),
    ],
)
def test_unusual_forms_are_read(written: str, right: str) -> None:
    assert taken(written) == right


@pytest.mark.parametrize("zero", ["٠", "۰", "०", "๐", "０", "߀"], ids=ascii)
def test_digits_of_every_script_are_read(zero: str) -> None:
    def digits(plain: str) -> str:
        return "".join(chr(ord(zero) + int(char)) if char.isdecimal() else char for char in plain)

    everywhere = taken(
        digits("2019:07:04 12:34:56"), x9291=text(digits("250")), x9011=text("+" + digits("02") + ":" + digits("00"))
    )
    assert everywhere == "2019-07-04T12:34:56.250+02:00"


@pytest.mark.parametrize(
    "unreadable",
    ["2015", "2015:06", "2015:13:45 10:00:00", "2015:02:30 10:00:00", "2015:06:29 25:00:00", "2015:06:29 10:61:00"]
    + ["yesterday", "29/06/2015 10:00:00", "\xff" * 19, "2015:00:00 00:00:00"],
)
def test_a_date_that_cannot_be_read_is_not_replaced_by_a_later_one(unreadable: str) -> None:
    assert taken(unreadable, x9004=text("2020:01:01 00:00:00")) is None


@pytest.mark.parametrize("unset", ["", " ", "0000:00:00 00:00:00", "    :  :     :  :  ", "0000-00-00T00:00:00"])
def test_an_unset_date_leaves_the_digitized_one_but_never_that_of_the_edit(unset: str) -> None:
    assert taken(unset, x9004=text("2011:07:19 11:36:38")) == "2011-07-19T11:36:38"
    assert taken(unset) is None


def test_the_date_of_the_edit_counts_where_there_is_no_other() -> None:
    assert parse(exif(EDIT)).camera.taken_at == "2020-05-05T05:05:05"


@pytest.mark.parametrize("tag", [TAKEN, DIGITIZED])
def test_a_date_in_the_other_directory_counts(tag: int) -> None:
    assert parse(exif({**EDIT, tag: text("2011:07:19 11:36:38")})).camera.taken_at == "2011-07-19T11:36:38"


def test_each_date_has_its_own_fraction_and_offset() -> None:
    values = {
        DIGITIZED: text("2011:07:19 11:36:38"),
        SUBSECONDS_TAKEN: text("99"),
        OFFSET_TAKEN: text("+09:00"),
        OFFSET_DIGITIZED: text("-02:00"),
    }
    assert parse(exif(EDIT, values)).camera.taken_at == "2011-07-19T11:36:38-02:00"


def test_the_offset_in_the_text_comes_before_the_tag() -> None:
    assert taken("2015-06-29T18:19:12+01:00", x9011=text("+09:00")) == "2015-06-29T18:19:12+01:00"
    assert taken("2015-06-29T18:19:12.5", x9291=text("25")) == "2015-06-29T18:19:12.5"


@pytest.mark.parametrize("kind", [ASCII, UTF8, 7, 1])
def test_a_date_of_any_type_of_text_is_read(kind: int) -> None:
    values = {TAKEN: raw(b"2024:07:01 09:05:07\0", kind=kind)}
    assert parse(exif(EDIT, values)).camera.taken_at == "2024-07-01T09:05:07"


def test_every_day_of_leap_years_and_others_is_read() -> None:
    assert parse_moment("2024:02:29 00:00:00") is not None
    assert parse_moment("2023:02:29 00:00:00") is None
    assert parse_moment("1900:02:29 00:00:00") is None
