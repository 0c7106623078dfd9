"""The comparison with exiftool counts what differs, and a comparison of nothing fails."""

import sys
from pathlib import Path

import pytest

from devtools import exif_comparison
from devtools.exif_comparison import Comparison, equal, expected


def test_exiftools_fields_have_the_form_of_imago() -> None:
    tags = {
        "IFD0:Make": "Canon ",
        "ExifIFD:ISO": "0 200",
        "ExifIFD:FNumber": 0.95,
        "ExifIFD:ExposureTime": 0.004,
        "ExifIFD:FocalLength": 50,
        "ExifIFD:DateTimeOriginal": "0000:00:00 00:00:00",
        "IFD0:ModifyDate": "2020:01:01 00:00:00",
        "Canon:LensType": "n/a",
        "Composite:Lens": "5.4 - 10.8 mm",
        "Composite:GPSAltitude": 12.3456,
    }
    fields = {"make": "Canon", "iso": 200, "aperture": "f/0.95", "shutter_speed": "1/250", "focal_length": "50mm"}
    assert expected(tags) == {**fields, "lens": {"5.4-10.8mm"}, "altitude": 12.346}


def test_a_lens_is_equal_to_any_of_exiftools_names() -> None:
    assert equal("lens", "EF-S18-55mm f/3.5-5.6 IS", {"canon ef-s 18-55mm", "ef-s18-55mm f/3.5-5.6 is"})
    assert not equal("lens", "18-55mm", {"ef-s18-55mm f/3.5-5.6 is"})
    assert not equal("lens", None, {"ef-s18-55mm f/3.5-5.6 is"})


def test_differences_are_counted_by_field() -> None:
    comparison = Comparison()
    comparison.add(Path("a.jpg"), {"make": "Canon", "iso": 100}, {"make": "Canon", "iso": 200, "model": "R5"})
    assert comparison.share == 0.5
    text = "\n".join(comparison.lines())
    assert "| iso | 1 | 0 | 0.0% | 0 |" in text
    assert "a.jpg: 200, exiftool 100" in text


def test_a_comparison_of_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["compare-exif", str(tmp_path)])
    monkeypatch.setattr(exif_comparison, "exiftool", lambda paths: {})
    assert exif_comparison.main() == 1
    assert "no file with EXIF was compared" in capsys.readouterr().err
