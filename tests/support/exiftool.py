"""The fields of a file as exiftool reads them and as Imago reads them, in the same form."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from imago.core.images.results import ExifResult

# Files for which exiftool returns more than EXIF contains, or less.
EXCEPTIONS = {
    ("Canon_DIGITAL_IXUS_400.jpg", "iso"): "only in the maker notes",
    ("Canon_PowerShot_S40.jpg", "iso"): "only in the maker notes",
    ("canon-ixus.jpg", "iso"): "only in the maker notes",
    ("11-tests.jpg", "iso"): "only in the maker notes",
    ("22-canon_tags.jpg", "iso"): "only in the maker notes",
    ("28-hex_value.jpg", "iso"): "only in the maker notes",
    (
        "87_OSError.jpg",
        "altitude",
    ): "exiftool composes no altitude without a reference; EXIF's default is above sea level",
}


def exiftool(paths: list[Path]) -> dict[Path, dict[str, Any]]:
    """Return exiftool's output for files; skip the test if exiftool is missing."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (`make setup` installs libimage-exiftool-perl)")
    completed = subprocess.run(["exiftool", "-json", "-n", "-G1", *map(str, paths)], capture_output=True, check=False)
    return {Path(item["SourceFile"]): item for item in json.loads(completed.stdout)}


def expected(truth: dict[str, Any]) -> dict[str, Any]:
    """Convert exiftool's fields to Imago's; missing fields are omitted."""

    def first(*names: str) -> Any:
        return next((truth[name] for name in names if name in truth), None)

    def text(value: Any) -> str | None:
        return None if value is None else str(value).strip() or None

    fields: dict[str, Any] = {"make": text(first("IFD0:Make")), "model": text(first("IFD0:Model"))}
    fields["iso"] = first("ExifIFD:ISO", "Composite:ISO")
    if isinstance(fields["iso"], str):
        fields["iso"] = int(fields["iso"].split()[0])
    if lens := first("ExifIFD:LensModel"):
        fields["lens"] = text(lens)
    if number := first("ExifIFD:FNumber"):
        fields["aperture"] = f"f/{round(number, 1):g}"
    if seconds := first("ExifIFD:ExposureTime"):
        fields["shutter_speed"] = f"1/{round(1 / seconds)}" if seconds < 0.3 else f"{round(seconds, 1):g}s"
    if length := first("ExifIFD:FocalLength"):
        fields["focal_length"] = f"{round(length, 1):g}mm"
    if taken := first("ExifIFD:DateTimeOriginal"):
        fields["taken_at"] = None if taken.startswith("0000") else taken.replace(":", "-", 2).replace(" ", "T")
    for name in ("Latitude", "Longitude", "Altitude"):
        value = truth.get(f"Composite:GPS{name}")
        fields[name.lower()] = round(value, 3) if isinstance(value, int | float) else None
    if fields["latitude"] is None or fields["longitude"] is None:
        fields["latitude"] = fields["longitude"] = None
    return fields


def ours(result: ExifResult) -> dict[str, Any]:
    """Return Imago's fields, rounded as by `expected`."""
    fields = {**vars(result.camera), **vars(result.gps)}
    fields["taken_at"] = (result.camera.taken_at or "")[:19] or None
    for name in ("latitude", "longitude", "altitude"):
        fields[name] = None if fields[name] is None else round(fields[name], 3)
    return fields
