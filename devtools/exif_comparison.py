"""Compare the EXIF of files, field by field, with exiftool: `make compare-exif DIR=folder`.

Counted are the fields that exiftool finds in EXIF, and its lens and sensitivity out of maker notes. The exit status is
1 if fewer than 99 % are equal, or if no file was compared.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imago.core.images.results import ExifResult
from imago.imaging.formats.header import sniff
from imago.imaging.metadata.exif import read_exif

TARGET = 0.99
SUFFIXES = {".jpg", ".jpeg", ".tif", ".tiff", ".heic", ".heif", ".avif", ".png", ".webp"}

# exiftool's groups of the directories that EXIF consists of.
_EXIF = ("ExifIFD", "IFD0")
_FOREIGN = re.compile(r"XMP|IPTC|File|ICC|Photoshop|JFIF|System|ExifTool|PNG|MPF|Track|QuickTime|IFD1|SubIFD|PDF|RIFF")
_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)")
_NO_LENS = re.compile(r"n/a|none|unknown.*|[\W_0]*|no lens.*", re.IGNORECASE)


def exiftool(paths: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Return exiftool's tags of files: numbers as they are stored, and the names of lenses."""
    names = "\n".join(map(str, paths))
    tags: dict[Path, dict[str, Any]] = {}
    lenses = ["-Lens*", "-LensID", "-LensModel"]
    for options in (["-n", "-x", "Lens*"], lenses):
        command = ["exiftool", "-json", "-G1", "-a", "-q", "-q", *options, "-@", "-"]
        completed = subprocess.run(command, input=names.encode(), capture_output=True, check=False)
        for item in json.loads(completed.stdout.decode(errors="replace") or "[]"):
            tags.setdefault(Path(item.pop("SourceFile")), {}).update(item)
    return tags


def expected(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return Imago's fields as exiftool has them. Missing ones are omitted; lenses are a set of exiftool's names."""
    fields: dict[str, Any] = {
        "make": _text(_exif(tags, "Make")),
        "model": _text(_exif(tags, "Model")),
        "iso": _iso(tags),
        "lens": _lenses(tags),
        "taken_at": _taken_at(tags),
    }
    if number := _positive(_exif(tags, "FNumber")):
        fields["aperture"] = f"f/{round(number, 1 if number >= 1 else 2):g}"
    if seconds := _positive(_exif(tags, "ExposureTime")):
        fields["shutter_speed"] = f"1/{round(1 / seconds)}" if seconds < 0.3 else f"{round(seconds, 1):g}s"
    if length := _positive(_exif(tags, "FocalLength")):
        fields["focal_length"] = f"{round(length, 1):g}mm"
    fields |= _place(tags)
    return {name: value for name, value in fields.items() if value not in (None, set())}


def ours(result: ExifResult) -> dict[str, Any]:
    """Return Imago's fields in the same form; missing ones are omitted."""
    fields = {**vars(result.camera), **vars(result.gps)}
    fields["taken_at"] = (result.camera.taken_at or "")[:19] or None
    for name in ("latitude", "longitude", "altitude"):
        fields[name] = None if fields[name] is None else round(fields[name], 3)
    names = ("make", "model", "iso", "lens", "taken_at", "aperture", "shutter_speed", "focal_length")
    places = ("latitude", "longitude", "altitude")
    return {name: fields[name] for name in (*names, *places) if fields[name] is not None}


def equal(name: str, actual: Any, truth: Any) -> bool:
    """Return whether a field is the same; the lens is if it is one of exiftool's names for it."""
    if name == "lens":
        return _plain_lens(actual or "") in truth
    if name in ("latitude", "longitude", "altitude"):
        return actual is not None and abs(actual - truth) < 0.0015
    return bool(actual == truth)


@dataclass
class Comparison:
    """The counts of fields, and the differences by field."""

    files: int = 0
    found: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    extra: Counter[str] = field(default_factory=Counter)
    differences: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, path: Path, truth: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        """Add a file, if exiftool finds any field in it."""
        self.extra.update(name for name in actual if name not in truth)
        self.files += bool(truth)
        for name, value in truth.items():
            self.found[name] += 1
            if equal(name, actual.get(name), value):
                self.same[name] += 1
            else:
                self.differences[name].append(f"{path}: {actual.get(name)!r}, exiftool {value!r}")

    @property
    def share(self) -> float:
        """The share of equal fields."""
        return self.same.total() / max(self.found.total(), 1)

    def lines(self) -> Iterator[str]:
        """Yield a table in Markdown, and the differences below it."""
        yield f"{self.files} files, {self.same.total()} of {self.found.total()} fields are equal ({self.share:.2%})\n"
        yield "| field | exiftool | equal | share | only Imago |"
        yield "|---|---|---|---|---|"
        for name, count in self.found.items():
            share = self.same[name] / count
            yield f"| {name} | {count} | {self.same[name]} | {share:.1%} | {self.extra[name]} |"
        for name, texts in self.differences.items():
            yield f"\n{name}"
            yield from (f"  {text}" for text in texts)


def compare(paths: Iterable[Path]) -> Comparison:
    """Compare files; those with the same bytes count once."""
    comparison = Comparison()
    distinct = {hashlib.sha256(path.read_bytes()).digest(): path for path in paths}
    for path, tags in exiftool(distinct.values()).items():
        with path.open("rb") as stream:
            comparison.add(path, expected(tags), ours(read_exif(stream)))
    return comparison


def main() -> int:
    """Compare the files of folders and print the table."""
    parser = argparse.ArgumentParser(prog="make compare-exif DIR=…", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    files = (path for folder in options.folders for path in sorted(folder.rglob("*")))
    comparison = compare(path for path in files if path.suffix.lower() in SUFFIXES and _is_image(path))
    print("\n".join(comparison.lines()))
    if not comparison.files:
        print("compare-exif: no file with EXIF was compared", file=sys.stderr)
    return 0 if comparison.files and comparison.share >= TARGET else 1


def _is_image(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return sniff(stream.read(256)) is not None


def _exif(tags: Mapping[str, Any], name: str) -> Any:
    return next((tags[f"{group}:{name}"] for group in _EXIF if f"{group}:{name}" in tags), None)


def _text(value: Any) -> str | None:
    return None if value is None else " ".join(str(value).split()) or None


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e9 else None


def _iso(tags: Mapping[str, Any]) -> int | None:
    names = ("ISO", "RecommendedExposureIndex", "StandardOutputSensitivity", "ISOSpeed")
    standard = [_exif(tags, name) for name in names]
    other = [value for key, value in tags.items() if key.endswith(":ISO") and not _FOREIGN.match(key)]
    composite = tags.get("Composite:ISO")
    composed = int(composite + 0.5) if isinstance(composite, int | float) else None
    for value in (*standard, composed, *other):
        # Several numbers are the values of a list.
        numbers = re.findall(r"\d+", str(value)) if value is not None else []
        if numbers and int(numbers[-1]) > 0 and int(numbers[-1]) != 65535:
            return int(numbers[-1])
    return None


def _lenses(tags: Mapping[str, Any]) -> set[str]:
    keys = [key for key in tags if key.rpartition(":")[2] in _LENS_TAGS and not _FOREIGN.match(key)]
    maker = any(not key.startswith("Composite") for key in keys)
    names = {str(tags[key]) for key in keys if maker and not _NO_LENS.fullmatch(str(tags[key]))}
    return {_plain_lens(name) for name in names}


_LENS_TAGS = ("LensID", "LensModel", "Lens", "LensSpec", "LensInfo", "LensType")


def _plain_lens(name: str) -> str:
    """Return a lens without the spaces, zeros and question marks that programs write differently."""
    plain = re.sub(r"(\d)\.0\b", r"\1", name.replace(" f/?", "").replace("f/?", ""))
    return " ".join(plain.replace(" - ", "-").replace(" mm", "mm").split()).casefold()


def _taken_at(tags: Mapping[str, Any]) -> str | None:
    found = [_exif(tags, name) for name in ("DateTimeOriginal", "CreateDate")]
    dates = [str(value) for value in found if value is not None]
    if not dates and (modified := _exif(tags, "ModifyDate")) is not None:
        dates = [str(modified)]
    matches = [match for text in dates if (match := _DATE.match(text)) and match[1] != "0000"]
    return "{}-{}-{}T{}:{}:{}".format(*matches[0].groups()) if matches else None


def _place(tags: Mapping[str, Any]) -> dict[str, float]:
    place = {name.lower(): tags.get(f"Composite:GPS{name}") for name in ("Latitude", "Longitude", "Altitude")}
    numbers = {name: round(value, 3) for name, value in place.items() if isinstance(value, int | float)}
    if "latitude" not in numbers or "longitude" not in numbers or not any(map(place.get, ("latitude", "longitude"))):
        numbers.pop("latitude", None)
        numbers.pop("longitude", None)
    return numbers


if __name__ == "__main__":
    sys.exit(main())
