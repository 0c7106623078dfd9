"""Fields of XMP packets: the forms that RDF allows, encodings, and packets made to do harm."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imago.core.images.results import Gps, Iptc, IptcPlace
from imago.imaging.metadata.iptc.xmp import read_xmp
from tests.support.descriptions import alternatives, items, xmp

PLACE = IptcPlace("Harbour", "Marseille", "Provence", "France", "FRA")
EVERY = (
    alternatives("dc:title", fr="Le port", default="The harbour")
    + alternatives("dc:description", default="Boats\nat night & more")
    + items("dc:subject", "boat", "night", "boat", " ")
    + items("dc:creator", "Ann Example", "Bo", kind="Seq")
    + alternatives("dc:rights", default="© 2024 Ann")
    + "<photoshop:Headline>Night</photoshop:Headline><photoshop:Credit>Agency</photoshop:Credit>"
    + "<xmp:Rating>4</xmp:Rating><photoshop:DateCreated>2024-05-06T07:08:09+02:00</photoshop:DateCreated>"
    + "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    + "</Iptc4xmpExt:DigitalSourceType><Iptc4xmpCore:Location>Harbour</Iptc4xmpCore:Location>"
    + "<photoshop:City>Marseille</photoshop:City><photoshop:State>Provence</photoshop:State>"
    + "<photoshop:Country>France</photoshop:Country><Iptc4xmpCore:CountryCode>FRA</Iptc4xmpCore:CountryCode>"
    + '<Iptc4xmpExt:LocationCreated><rdf:Bag><rdf:li rdf:parseType="Resource"><Iptc4xmpExt:City>Aix</Iptc4xmpExt:City>'
    + "</rdf:li></rdf:Bag></Iptc4xmpExt:LocationCreated>"
    + '<Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li><rdf:Description Iptc4xmpExt:City="Cassis"/></rdf:li>'
    + '<rdf:li Iptc4xmpExt:CountryName="Italia"/></rdf:Bag></Iptc4xmpExt:LocationShown>'
)
FIELDS = Iptc(
    title="The harbour",
    headline="Night",
    caption="Boats\nat night & more",
    keywords=("boat", "night"),
    creator="Ann Example; Bo",
    copyright="© 2024 Ann",
    credit="Agency",
    rating=4,
    digital_source_type="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    created_at="2024-05-06T07:08:09+02:00",
    place=PLACE,
    location_created=IptcPlace(city="Aix"),
    locations_shown=(IptcPlace(city="Cassis"), IptcPlace(country="Italia")),
)


def test_every_field_is_read() -> None:
    assert read_xmp(xmp(EVERY)).iptc == FIELDS


def test_simple_properties_may_be_attributes() -> None:
    fields = read_xmp(xmp("", 'photoshop:City="Oslo" xmp:Rating="3" dc:title="Plain" dc:subject="one"')).iptc
    assert (fields.place, fields.rating, fields.title) == (IptcPlace(city="Oslo"), 3, "Plain")
    assert fields.keywords == ("one",)


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ("<dc:title>Plain</dc:title>", "Plain"),
        (items("dc:title", "In a bag"), "In a bag"),
        (alternatives("dc:title", fr="Seul"), "Seul"),
        (alternatives("dc:title", fr="Bonjour", default=""), "Bonjour"),
        (
            '<dc:title rdf:parseType="Resource"><rdf:value>Qualified</rdf:value><xmp:Label>x</xmp:Label></dc:title>',
            "Qualified",
        ),
        ("<dc:title><rdf:Description><rdf:value>Nested</rdf:value></rdf:Description></dc:title>", "Nested"),
        ("<dc:title><![CDATA[a < b]]></dc:title>", "a < b"),
        ("<dc:title>a&#x0;b&#31;c&#xD800;d</dc:title>", "abcd"),
        ("<dc:title>a\x01b\x00c</dc:title>", "abc"),
        ("<dc:title>&#x202E;gpj.exe</dc:title>", "gpj.exe"),
        ("<dc:title>می‌خواهم 👨‍👩‍👧</dc:title>", "می‌خواهم 👨‍👩‍👧"),
        ("<dc:title>  </dc:title>", None),
        ("<dc:title/>", None),
    ],
)
def test_a_title_is_read_in_every_form(body: str, title: str | None) -> None:
    assert read_xmp(xmp(body)).iptc.title == title


def test_a_uri_may_be_a_resource() -> None:
    body = '<Iptc4xmpExt:DigitalSourceType rdf:resource="http://cv.iptc.org/newscodes/digitalsourcetype/digitalArt"/>'
    source = read_xmp(xmp(body)).iptc.digital_source_type
    assert source == "http://cv.iptc.org/newscodes/digitalsourcetype/digitalArt"


def test_prefixes_are_names_of_the_writer() -> None:
    packet = xmp(EVERY).replace(b"xmlns:dc=", b"xmlns:other=").replace(b"dc:", b"other:")
    assert read_xmp(packet).iptc == FIELDS


def test_several_descriptions_are_one() -> None:
    packet = xmp("<xmp:Rating>1</xmp:Rating></rdf:Description><rdf:Description>" + items("dc:subject", "x"))
    packet = packet.replace(b"<rdf:Description>", b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">')
    assert (read_xmp(packet).iptc.rating, read_xmp(packet).iptc.keywords) == (1, ("x",))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_every_encoding_of_xmp_is_read(encoding: str) -> None:
    assert read_xmp(xmp(EVERY).decode().replace("\ufeff", "").encode(encoding)).iptc == FIELDS


@pytest.mark.parametrize("before", [b"", b"\n \n", b"\0\0\0", b'<?xml version="1.0" encoding="ISO-8859-1"?>'])
@pytest.mark.parametrize("after", [b"", b"\0" * 100, b"junk", b"<more/>"])
def test_what_surrounds_a_packet_does_no_harm(before: bytes, after: bytes) -> None:
    assert read_xmp(before + xmp(EVERY) + after).iptc == FIELDS


def test_bytes_that_are_not_utf_8_are_read_as_latin_1() -> None:
    packet = xmp("<dc:title>caf\ue000 €</dc:title>").replace("\ue000".encode(), b"\xe9")
    assert read_xmp(packet).iptc.title == "café €"


def test_a_packet_cut_in_the_middle_keeps_what_was_complete() -> None:
    whole = xmp(EVERY)
    fields = read_xmp(whole[: whole.index(b"<photoshop:State>")]).iptc
    assert (fields.title, fields.rating, fields.place) == ("The harbour", 4, IptcPlace("Harbour", "Marseille"))


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("5", 5),
        ("-1", -1),
        ("0", 0),
        ("3.0", 3),
        ("6", None),
        ("99", None),
        ("five", None),
        ("٣", None),
        ("1e400", None),
    ],
)
def test_ratings_are_stars(text: str, rating: int | None) -> None:
    assert read_xmp(xmp(f"<xmp:Rating>{text}</xmp:Rating>")).iptc.rating == rating


@pytest.mark.parametrize(
    ("percent", "rating"), [("0", None), ("1", 1), ("25", 2), ("50", 3), ("75", 4), ("99", 5), ("-5", None)]
)
def test_windows_rates_in_percent(percent: str, rating: int | None) -> None:
    assert read_xmp(xmp(f"<MicrosoftPhoto:Rating>{percent}</MicrosoftPhoto:Rating>")).iptc.rating == rating


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("48,51.5N", 48.8583333),
        ("48,51,30N", 48.8583333),
        ("12,30.0S", -12.5),
        ("48.8583", 48.8583),
        ("-12.5", -12.5),
        ("91,0N", None),
        ("48,51.5E", None),
        ("x", None),
        ("٤٨,٥١N", None),
    ],
)
def test_coordinates_are_degrees(text: str, degrees: float | None) -> None:
    body = f"<exif:GPSLatitude>{text}</exif:GPSLatitude><exif:GPSLongitude>0,7.5W</exif:GPSLongitude>"
    assert read_xmp(xmp(body)).gps.latitude == degrees


@pytest.mark.parametrize(
    ("text", "reference", "metres"),
    [("35/1", "0", 35.0), ("355/10", "1", -35.5), ("35/0", "0", None), ("12.5", "", 12.5), ("9999999/1", "0", None)],
)
def test_altitudes_are_metres(text: str, reference: str, metres: float | None) -> None:
    body = f"<exif:GPSAltitude>{text}</exif:GPSAltitude><exif:GPSAltitudeRef>{reference}</exif:GPSAltitudeRef>"
    assert read_xmp(xmp(body)).gps.altitude == metres


def test_the_location_created_has_the_place_of_the_camera() -> None:
    point = 'exif:GPSLatitude="48,51.5N" exif:GPSLongitude="2,21.0E"'
    created = f"<Iptc4xmpExt:LocationCreated><rdf:Bag><rdf:li {point}/></rdf:Bag></Iptc4xmpExt:LocationCreated>"
    assert read_xmp(xmp(created)).gps == Gps.at(48.8583333, 2.35, None)
    assert read_xmp(xmp(created, 'exif:GPSLatitude="1.0" exif:GPSLongitude="2.0"')).gps == Gps.at(1.0, 2.0, None)


def test_thousands_of_edits_before_a_field_do_no_harm() -> None:
    edits = (
        '<n:Masks xmlns:n="http://ns.adobe.com/camera-raw-settings/1.0/">'
        + "<n:Mask><n:a/></n:Mask>" * 30_000
        + "</n:Masks>"
    )
    assert read_xmp(xmp(edits + EVERY)).iptc == FIELDS


def test_texts_are_cut_to_their_limits() -> None:
    many = items("dc:subject", *(f"keyword {number} " + "x" * 300 for number in range(1000)))
    fields = read_xmp(xmp(many + alternatives("dc:description", default="y " * 100_000, title="z"))).iptc
    assert (len(fields.keywords), max(map(len, fields.keywords))) == (200, 100)
    assert len(fields.caption or "") <= 4000


HOSTILE = {
    "entities": b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    + xmp("<dc:title>&b;</dc:title>"),
    "an external entity": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + xmp("<dc:title>&a;</dc:title>"),
    "depth": xmp("<dc:title>" * 100_000),
    "elements": xmp("<dc:title/>" * 150_000),
    "attributes": xmp("", " ".join(f'dc:a{number}=""' for number in range(150_000))),
    "elements of other namespaces": xmp("<xmp:Label/>" * 15_000 + "<x:y/>" * 150_000),
    "declared namespaces": xmp("".join(f'<dc:b xmlns:n{number}="u{number}"/>' for number in range(50_000))),
    "nested namespaces": xmp("".join(f'<dc:b xmlns:n{number}="u{number}">' for number in range(50_000))),
    "comments": xmp("<dc:title>" + "x<!---->" * 250_000 + "</dc:title>"),
    "references": xmp("<dc:title>" + "&#1;" * 500_000 + "</dc:title>"),
    "letters outside of ASCII": xmp("<dc:title>" + "é\x01" * 600_000 + "</dc:title>"),
    "one long text": xmp("<dc:title>" + "x" * 2_000_000 + "</dc:title>"),
    "open tags": b"<" * 2_000_000,
    "open declarations": b"<?xml " * 300_000,
    "items": xmp("<dc:subject><rdf:Bag>" + "<rdf:li>a</rdf:li>" * 100_000),
    "places": xmp("<Iptc4xmpExt:LocationShown><rdf:Bag>" + '<rdf:li Iptc4xmpExt:City="a"/>' * 60_000),
}


@pytest.mark.parametrize("packet", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_packet_takes_little_time(packet: bytes) -> None:
    started = time.process_time()
    fields = read_xmp(packet)
    assert time.process_time() - started < 1.5
    assert "root:" not in (fields.iptc.title or "")


@pytest.mark.parametrize("name", ["attributes", "elements", "items", "one long text"])
def test_a_hostile_packet_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    read_xmp(HOSTILE[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 * 2**20


def test_entities_are_not_expanded() -> None:
    assert read_xmp(HOSTILE["entities"]).iptc == Iptc()


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 4000), st.integers(0, 60))
def test_mutated_packets_never_raise(noise: bytes, start: int, length: int) -> None:
    packet = xmp(EVERY)
    for damaged in (noise, packet[:start] + noise + packet[start + length :]):
        fields = read_xmp(damaged).iptc
        texts = [fields.title, fields.caption, *fields.keywords, *fields.texts]
        assert not any("\0" in text or (not text.isprintable() and "\n" not in text) for text in texts if text)
