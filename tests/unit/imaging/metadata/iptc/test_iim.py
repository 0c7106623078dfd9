"""Fields of IPTC-IIM records: character sets, dates, damage."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.core.images.results import Iptc, IptcPlace
from imago.imaging.metadata.iptc.iim import read_iim
from tests.support.descriptions import digest_of, iim

EVERY = iim(
    (5, "Le port"),
    (25, "bateau"),
    (25, "nuit"),
    (25, "bateau"),
    (55, "20240506"),
    (60, "070809+0200"),
    (80, "Ann"),
    (80, "Bo"),
    (90, "Marseille"),
    (92, "Vieux-Port"),
    (95, "Provence"),
    (100, "FRA"),
    (101, "France"),
    (105, "La nuit"),
    (110, "Agence"),
    (116, "© 2024"),
    (120, "Bateaux\rla nuit"),
)


def test_every_field_is_read() -> None:
    assert read_iim(EVERY).iptc == Iptc(
        title="Le port",
        headline="La nuit",
        caption="Bateaux\nla nuit",
        keywords=("bateau", "nuit"),
        creator="Ann; Bo",
        copyright="© 2024",
        credit="Agence",
        created_at="2024-05-06T07:08:09+02:00",
        place=IptcPlace("Vieux-Port", "Marseille", "Provence", "France", "FRA"),
    )


@pytest.mark.parametrize(
    ("raw", "utf_8", "text"),
    [
        ("Zürich".encode(), True, "Zürich"),
        ("Zürich".encode(), False, "Zürich"),
        ("Zürich".encode("latin-1"), False, "Zürich"),
        ("“€5”".encode("cp1252"), False, "“€5”"),
        ("Zürich 東".encode()[:-1], True, "Zürich"),
        (b"a\0b\x1fc", True, "abc"),
        (b"", True, None),
    ],
)
def test_texts_are_decoded_as_declared_or_as_they_can_be(raw: bytes, utf_8: bool, text: str | None) -> None:
    assert read_iim(iim((5, raw), utf_8=utf_8)).iptc.title == text


@pytest.mark.parametrize(
    ("day", "time_of_day", "written"),
    [
        ("20240506", "", "2024-05-06"),
        ("20240506", "070809", "2024-05-06T07:08:09"),
        ("20240506", "070809-0530", "2024-05-06T07:08:09-05:30"),
        ("20240500", "", "2024-05"),
        ("20240000", "", "2024"),
        ("00000000", "000000", None),
        ("2024-05-06", "", "2024-05-06"),
        ("20240506", "999999", "2024-05-06"),
        ("٢٠٢٤٠٥٠٦", "", None),
        ("soon", "", None),
    ],
)
def test_dates_are_as_precise_as_they_are_written(day: str, time_of_day: str, written: str | None) -> None:
    assert read_iim(iim((55, day), (60, time_of_day))).iptc.created_at == written


def test_a_long_text_has_an_extended_length() -> None:
    text = b"x" * 40_000
    record = b"\x1c\x02\x78\x80\x04" + len(text).to_bytes(4, "big") + text + iim((5, "after"))
    fields = read_iim(record).iptc
    assert (len(fields.caption or ""), fields.title) == (4000, "after")


def test_a_digest_shows_whether_the_record_is_newer_than_xmp() -> None:
    assert not read_iim(EVERY).newer_than_xmp
    assert not read_iim(EVERY, digest=digest_of(EVERY)).newer_than_xmp
    assert not read_iim(EVERY, digest=bytes(16)).newer_than_xmp
    assert read_iim(EVERY, digest=digest_of(b"before")).newer_than_xmp


def test_a_damaged_record_keeps_what_precedes_the_damage() -> None:
    assert read_iim(iim((5, "kept")) + b"\x1c\x02\x19\xff").iptc.title == "kept"
    assert read_iim(iim((5, "kept")) + b"\x1c\x02\x19\x80\x09" + b"\xff" * 20).iptc.title == "kept"


@pytest.mark.parametrize("record", [b"\x1c\x02\x19\0\0" * 200_000, b"\x1c\x02\x19\0\x01a" * 170_000, EVERY * 3000])
def test_a_hostile_record_takes_little_time(record: bytes) -> None:
    started = time.process_time()
    assert len(read_iim(record).iptc.keywords) <= 200
    assert time.process_time() - started < 1


@given(st.binary(max_size=200), st.integers(0, len(EVERY)), st.integers(0, 30))
def test_mutated_records_never_raise(noise: bytes, start: int, length: int) -> None:
    for record in (noise, EVERY[:start] + noise + EVERY[start + length :]):
        assert not any("\0" in text for text in read_iim(record).iptc.texts)
