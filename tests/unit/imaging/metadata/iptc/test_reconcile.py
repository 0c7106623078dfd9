"""Which source a field is taken from, and the texts of EXIF."""

from typing import Any

import pytest

from imago.core.images.results import Iptc, IptcPlace
from imago.imaging.metadata.iptc.exif_texts import read_texts
from imago.imaging.metadata.iptc.iim import IimFields
from imago.imaging.metadata.iptc.reconcile import reconcile

XMP = Iptc(title="X", caption="Long caption of XMP", keywords=("x",))
IIM = Iptc(title="I", caption="Long caption", keywords=("i",), place=IptcPlace(city="Oslo"))
EXIF = Iptc(caption="E", creator="Ann", rating=2)


def test_xmp_comes_before_iim_and_iim_before_exif() -> None:
    expected = Iptc("X", None, "Long caption of XMP", ("x",), creator="Ann", rating=2, place=IptcPlace(city="Oslo"))
    assert reconcile(XMP, IimFields(IIM), EXIF) == expected


def test_iim_that_was_changed_later_comes_first_unless_it_is_cut() -> None:
    expected = Iptc("I", None, "Long caption of XMP", ("i",), creator="Ann", rating=2, place=IptcPlace(city="Oslo"))
    assert reconcile(XMP, IimFields(IIM, newer_than_xmp=True), EXIF) == expected


def test_the_names_of_a_place_are_fields_of_their_own() -> None:
    xmp, iim = Iptc(place=IptcPlace(city="Oslo")), Iptc(place=IptcPlace(city="O", country="Norge"))
    assert reconcile(xmp, IimFields(iim), Iptc()) == Iptc(place=IptcPlace(city="Oslo", country="Norge"))


def test_nothing_is_none() -> None:
    assert reconcile(Iptc(), IimFields(), Iptc()) is None


@pytest.mark.parametrize(
    ("tag", "value", "fields"),
    [
        (0x010E, b"A harbour\0", Iptc(caption="A harbour")),
        (0x010E, "Été".encode("latin-1"), Iptc(caption="Été")),
        (0x010E, b"OLYMPUS DIGITAL CAMERA         \0", Iptc()),
        (0x010E, b"SONY DSC", Iptc()),
        (0x010E, b"KODAK Digital Still Camera", Iptc()),
        (0x010E, b"DCFC1247.JPG", Iptc()),
        (0x010E, b"default", Iptc()),
        (0x010E, b"DCIM\\100MEDIA\\DJI_0001.JPG", Iptc()),
        (0x010E, b"               \0", Iptc()),
        (0x010E, 5, Iptc()),
        (0x013B, b"Ann; Bo\0", Iptc(creator="Ann; Bo")),
        (0x8298, b"(c) Ann\0(c) Agency\0", Iptc(copyright="(c) Ann\n(c) Agency")),
        (0x8298, b" \0", Iptc()),
        (0x4746, 4, Iptc(rating=4)),
        (0x4746, 70000, Iptc()),
        (0x4749, 99, Iptc(rating=5)),
        (0x9C9B, "Hafen\0".encode("utf-16-le"), Iptc(title="Hafen")),
        (0x9C9B, tuple("Hafen\0".encode("utf-16-le")), Iptc(title="Hafen")),
        (0x9C9B, (1.5, -3), Iptc()),
        (0x9C9D, "Ann;Bo".encode("utf-16-le"), Iptc(creator="Ann; Bo")),
        (0x9C9E, "a;b;;a".encode("utf-16-le"), Iptc(keywords=("a", "b"))),
        (0x9C9C, "Words".encode("utf-16-le"), Iptc(caption="Words")),
    ],
)
def test_texts_of_exif_and_windows_are_read(tag: int, value: Any, fields: Iptc) -> None:
    assert read_texts({tag: value}) == fields
