"""The EXIF of camera files, compared with exiftool."""

import io
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import piexif
import pytest
from PIL import Image

from devtools.exif_comparison import TARGET, compare, exiftool, expected
from devtools.photos import corpus, corpus_files
from imago.imaging.metadata.exif import read_exif
from tests.support.images import encoded

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="exiftool is not installed (`make setup` installs libimage-exiftool-perl)"
)


@needs_exiftool
def test_the_fields_of_camera_files_are_the_same_as_with_exiftool(record_property) -> None:
    corpus()
    comparison = compare(corpus_files("**/*.jp*g", "**/*.tiff", "**/*.HEIC", "**/*.heif"))
    record_property("fields", comparison.found.total())
    assert comparison.found.total() >= 300, "too few fields were compared"
    assert comparison.share >= TARGET, "\n".join(comparison.lines())


def copy_exif(jpeg: bytes, path: Path) -> None:
    """Write a TIFF with a JPEG's EXIF: Pillow writes no GPS directory into TIFF."""
    source = path.with_suffix(".jpg")
    source.write_bytes(jpeg)
    path.write_bytes(encoded("tiff"))
    command = ["exiftool", "-q", "-overwrite_original", "-tagsFromFile", source, "-all:all", "-unsafe", path]
    subprocess.run(command, check=True)


def degrees(value: float) -> tuple[tuple[int, int], ...]:
    whole = int(value)
    minutes = int((value - whole) * 60)
    seconds = Fraction((value - whole - minutes / 60) * 3600).limit_denominator(10_000)
    return (whole, 1), (minutes, 1), (seconds.numerator, seconds.denominator)


@needs_exiftool
@pytest.mark.parametrize("kind", ["jpeg", "webp", "png", "heic", "avif", "tiff"])
@pytest.mark.parametrize(
    ("latitude", "longitude", "altitude"),
    [(48.8584, 2.2945, 35), (-33.8568, 151.2153, 4), (40.6892, -74.0445, -12), (-22.9519, -43.2105, 710)],
)
def test_places_in_all_hemispheres_are_read_from_all_formats(
    tmp_path: Path, kind: str, latitude: float, longitude: float, altitude: int
) -> None:
    gps = {
        piexif.GPSIFD.GPSLatitudeRef: "N" if latitude >= 0 else "S",
        piexif.GPSIFD.GPSLatitude: degrees(abs(latitude)),
        piexif.GPSIFD.GPSLongitudeRef: "E" if longitude >= 0 else "W",
        piexif.GPSIFD.GPSLongitude: degrees(abs(longitude)),
        piexif.GPSIFD.GPSAltitudeRef: 0 if altitude >= 0 else 1,
        piexif.GPSIFD.GPSAltitude: (abs(altitude), 1),
    }
    exif = {
        piexif.ExifIFD.DateTimeOriginal: "2024:02:29 13:14:15",
        piexif.ExifIFD.OffsetTimeOriginal: "-03:30",
        piexif.ExifIFD.SubSecTimeOriginal: "250",
        piexif.ExifIFD.FNumber: (28, 10),
        piexif.ExifIFD.ExposureTime: (1, 250),
        piexif.ExifIFD.FocalLength: (50, 1),
        piexif.ExifIFD.ISOSpeedRatings: 200,
        piexif.ExifIFD.LensModel: "EF 50mm f/1.8",
    }
    block = piexif.dump(
        {"0th": {piexif.ImageIFD.Make: "Canon", piexif.ImageIFD.Model: "EOS R5"}, "Exif": exif, "GPS": gps}
    )
    path = tmp_path / f"file.{kind}"
    if kind == "tiff":
        copy_exif(encoded("jpeg", exif=block), path)
    else:
        path.write_bytes(encoded(kind, Image.new("RGB", (64, 64)), exif=block))
    result = read_exif(io.BytesIO(path.read_bytes()))
    camera = result.camera
    assert camera.taken_at == "2024-02-29T13:14:15.250-03:30"
    assert (camera.aperture, camera.shutter_speed, camera.focal_length) == ("f/2.8", "1/250", "50mm")
    assert (camera.make, camera.model, camera.iso, camera.lens) == ("Canon", "EOS R5", 200, "EF 50mm f/1.8")
    assert result.gps.has_gps
    assert result.gps.latitude == pytest.approx(latitude, abs=1e-5)
    assert result.gps.longitude == pytest.approx(longitude, abs=1e-5)
    assert result.gps.altitude == altitude
    truth = expected(exiftool([path])[path])
    assert truth["latitude"] == pytest.approx(latitude, abs=1e-3)
    assert truth["altitude"] == altitude
