"""All metadata of files of each format."""

import io
from typing import Any

import pytest
from PIL import Image

from imago.core.images.results import Gps, Iptc, IptcPlace
from imago.imaging.metadata.reader import read_file
from tests.support.descriptions import FORMATS, alternatives, described, digest_of, extended, iim, items, xmp
from tests.support.exif_blocks import BYTE, Value, exif, text
from tests.support.images import encoded

PACKET = xmp(alternatives("dc:title", default="Harbour") + items("dc:subject", "boat", "東京"))
RECORD = iim((120, "Caption"), (25, "other"), (90, "Oslo"))


def read(data: bytes) -> Any:
    return read_file(io.BytesIO(data))


@pytest.mark.parametrize("kind", FORMATS)
def test_xmp_is_read_from_every_format(kind: str) -> None:
    assert read(described(kind, PACKET)).iptc == Iptc(title="Harbour", keywords=("boat", "東京"))


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_iim_completes_xmp(kind: str) -> None:
    place = IptcPlace(city="Oslo")
    assert read(described(kind, PACKET, RECORD)).iptc == Iptc("Harbour", None, "Caption", ("boat", "東京"), place=place)
    assert read(described(kind, b"", RECORD)).iptc == Iptc(caption="Caption", keywords=("other",), place=place)


@pytest.mark.parametrize("kind", [*FORMATS, "gif"])
def test_a_file_that_says_nothing_has_no_fields(kind: str) -> None:
    assert read(described(kind)).iptc is None


@pytest.mark.parametrize(("digest", "keyword"), [(digest_of(RECORD), "boat"), (digest_of(b"before"), "other")])
def test_photoshops_digest_shows_which_one_is_newer(digest: bytes, keyword: str) -> None:
    assert keyword in read(described("jpeg", PACKET, RECORD, digest=digest)).iptc.keywords


def test_an_extended_packet_completes_the_main_one() -> None:
    more = xmp(
        alternatives("dc:description", default="Further " + "x" * 90_000) + alternatives("dc:title", default="no")
    )
    iptc = read(extended(PACKET, more)).iptc
    assert (iptc.title, iptc.caption[:9], iptc.keywords) == ("Harbour", "Further x", ("boat", "東京"))


def with_exif(packet: bytes, *, main: dict[int, Any] | None = None, exif: dict[int, Any] | None = None) -> bytes:
    tags = Image.Exif()
    tags.update(main or {})
    tags.get_ifd(0x8769).update(exif or {})
    output = io.BytesIO()
    Image.new("RGB", (8, 8)).save(output, "jpeg", exif=tags, xmp=packet)
    return output.getvalue()


CAMERA = xmp(
    "<exif:DateTimeOriginal>2019-07-04T12:34:56.5+02:00</exif:DateTimeOriginal><aux:Lens>50mm</aux:Lens>"
    "<exif:GPSLatitude>51,30.0N</exif:GPSLatitude><exif:GPSLongitude>0,7.5W</exif:GPSLongitude>"
    "<exif:GPSAltitude>35/1</exif:GPSAltitude><exif:GPSAltitudeRef>0</exif:GPSAltitudeRef>"
)


@pytest.mark.parametrize("kind", FORMATS)
def test_xmp_completes_a_missing_exif(kind: str) -> None:
    result = read(described(kind, CAMERA))
    assert (result.camera.taken_at, result.camera.lens) == ("2019-07-04T12:34:56.5+02:00", "50mm")
    assert result.gps == Gps.at(51.5, -0.125, 35.0)
    assert result.iptc is None


def test_exif_comes_before_xmp() -> None:
    exif = {0x9003: "2020:01:02 03:04:05", 0xA434: "Lens 35"}
    camera = read(with_exif(CAMERA, exif=exif)).camera
    assert (camera.taken_at, camera.lens) == ("2020-01-02T03:04:05", "Lens 35")


def test_the_time_of_the_last_change_comes_after_xmp() -> None:
    assert (
        read(with_exif(CAMERA, main={0x0132: "2024:01:02 03:04:05"})).camera.taken_at == "2019-07-04T12:34:56.5+02:00"
    )
    assert read(with_exif(PACKET, main={0x0132: "2024:01:02 03:04:05"})).camera.taken_at == "2024-01-02T03:04:05"


@pytest.mark.parametrize(
    ("written", "taken_at"),
    [
        ("1950-06-07", "1950-06-07T00:00:00"),
        ("1950-06", None),
        ("1950", None),
        ("1950-06-07T08:09", "1950-06-07T08:09:00"),
    ],
)
def test_the_date_of_a_scanned_photograph_counts_if_the_day_is_known(written: str, taken_at: str | None) -> None:
    result = read(described("jpeg", xmp(f"<photoshop:DateCreated>{written}</photoshop:DateCreated>")))
    assert result.camera.taken_at == taken_at
    assert result.iptc.created_at == (written + ":00" if "T" in written else written)


def test_exifs_own_texts_are_last() -> None:
    main = {0x010E: "Words", 0x013B: "Ann", 0x9C9E: "a;b\0".encode("utf-16-le")}
    assert read(with_exif(PACKET, main=main)).iptc == Iptc("Harbour", None, "Words", ("boat", "東京"), creator="Ann")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (text("港の夜".encode("cp932")), "港の夜"),
        (text("It\u2019s \u201cthere\u201d".encode("cp1252")), "It\u2019s \u201cthere\u201d"),
        (text("Hafen", kind=BYTE), "Hafen"),
        (text("Café".encode()), "Café"),
    ],
    ids=["Shift-JIS", "Windows", "BYTE", "UTF-8"],
)
def test_exifs_texts_are_read_in_every_encoding(value: Value, shown: str) -> None:
    data = encoded("jpeg", exif=b"Exif\0\0" + exif({0x010E: value, 0x013B: value, 0x8298: value}))
    iptc = read(data).iptc
    assert (iptc.caption, iptc.creator, iptc.copyright) == (shown, shown, shown)


def test_results_survive_their_json() -> None:
    result = read(described("jpeg", PACKET, RECORD))
    assert type(result).from_json(result.to_json()) == result
    stored_before = {name: value for name, value in result.to_json().items() if name != "iptc"}
    assert type(result).from_json(stored_before).iptc is None
