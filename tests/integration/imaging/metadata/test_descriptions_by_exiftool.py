"""Texts that exiftool writes into files of each format are read as they were written."""

import shutil
import subprocess
from pathlib import Path

import pytest

from imago.core.images.results import Iptc, IptcPlace
from imago.imaging.metadata.reader import read_file
from tests.support.descriptions import FORMATS, described

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = {
    "XMP-dc:Title": "Hafen 東京",
    "XMP-dc:Title-fr": "Port",
    "XMP-dc:Description": "Boote & Nacht",
    "XMP-dc:Subject": "boat",
    "XMP-dc:Creator": "Ann Example",
    "XMP-dc:Rights": "© Ann",
    "XMP-photoshop:Headline": "Night",
    "XMP-photoshop:Credit": "Agency",
    "XMP-photoshop:DateCreated": "2024:05:06 07:08:09+02:00",
    "XMP-photoshop:City": "Łódź",
    "XMP-iptcCore:CountryCode": "POL",
    "XMP-iptcExt:LocationCreatedCity": "Kraków",
    "XMP-iptcExt:LocationShownCountryName": "Polska",
    "XMP-iptcExt:DigitalSourceType#": SOURCE,
    "XMP-xmp:Rating": "4",
    "XMP-aux:Lens": "18-55mm",
    "XMP-exif:GPSLatitude": "51.5",
    "XMP-exif:GPSLongitude": "-0.125",
}
IIM = {
    "IPTC:ObjectName": "Hafen",
    "IPTC:Caption-Abstract": "Boote",
    "IPTC:Keywords": "boat",
    "IPTC:By-line": "Ann",
    "IPTC:City": "Łódź",
    "IPTC:DateCreated": "2024:05:06",
    "IPTC:TimeCreated": "07:08:09+02:00",
}


def written(path: Path, tags: dict[str, str]) -> Path:
    """Let exiftool write tags into a file; skip the test if it is missing."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (`make setup` installs libimage-exiftool-perl)")
    arguments = [f"-{name}={value}" for name, value in tags.items()]
    command = ["exiftool", "-q", "-overwrite_original", "-charset", "iptc=UTF8", "-IPTC:CodedCharacterSet=UTF8"]
    completed = subprocess.run([*command, *arguments, str(path)], capture_output=True, text=True, check=False)
    if "Can't write" in completed.stderr or "not yet supported" in completed.stderr:
        pytest.skip(completed.stderr.splitlines()[0])
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_xmp(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(described(kind))
    with written(path, XMP).open("rb") as stream:
        result = read_file(stream)
    assert result.iptc == Iptc(
        title="Hafen 東京",
        headline="Night",
        caption="Boote & Nacht",
        keywords=("boat",),
        creator="Ann Example",
        copyright="© Ann",
        credit="Agency",
        rating=4,
        digital_source_type=SOURCE,
        created_at="2024-05-06T07:08:09+02:00",
        place=IptcPlace(city="Łódź", country_code="POL"),
        location_created=IptcPlace(city="Kraków"),
        locations_shown=(IptcPlace(country="Polska"),),
    )
    assert (result.camera.lens, result.gps.latitude, result.gps.longitude) == ("18-55mm", 51.5, -0.125)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_iim(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(described(kind))
    with written(path, IIM).open("rb") as stream:
        iptc = read_file(stream).iptc
    assert iptc == Iptc(
        title="Hafen",
        caption="Boote",
        keywords=("boat",),
        creator="Ann",
        created_at="2024-05-06T07:08:09+02:00",
        place=IptcPlace(city="Łódź"),
    )
