"""Make the set of `make evaluate`: `python -m devtools.evaluation.make_set FOLDER`.

No foreign file is stored in the repository: pages are drawn, and photos come from packages that tests install.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import piexif
from PIL import Image, ImageEnhance, ImageOps

from devtools.evaluation.pages import KINDS
from devtools.evaluation.photo_labels import NAMES, NONSENSE, NOTHING, PHOTOS, PLACES, QUERIES, described
from imago.evaluation.labels import FILE

_PAGES_OF_EACH_KIND = 4

# The ends of the names of a photo and of its edited copies.
_ALL = ("", "-half", "-brighter", "-cropped", "-mirrored")

_ImageLabels = dict[str, dict[str, Any]]


def make_set(folder: Path) -> None:
    """Write the images and the labels."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {**_pages(folder), **_photos(folder), **_places(folder)}
    (folder / FILE).write_text(json.dumps({"images": images, "names": NAMES, "queries": list(_queries())}))


def _pages(folder: Path) -> _ImageLabels:
    labels: _ImageLabels = {}
    for kind, draw in KINDS.items():
        for number in range(_PAGES_OF_EACH_KIND):
            language = ("fr", "en")[number % 2]
            image, text = draw(random.Random(f"{kind} {number}"), language)
            name = f"page-{kind.replace(' ', '-').removesuffix('°')}-{number}.jpg"
            image.save(folder / name, quality=85)
            labels[name] = {"kind": kind, "language": language, "text": text}
    return labels


def _photos(folder: Path) -> _ImageLabels:
    labels: _ImageLabels = {}
    for path, names in (PHOTOS | {path: [] for path in NOTHING}).items():
        photo = Image.open(path).convert("RGB")
        name = f"{path.stem}.jpg"
        photo.save(folder / name, quality=92)
        labels[name] = described(names)
        if names:
            for kind, copy in _copies(photo):
                copied = f"{path.stem}-{kind}.jpg"
                copy.save(folder / copied, quality=60)
                labels[copied] = {"kind": kind, "same_as": name}
    for colour in ("#c02020", "#2040a0", "#808080", "#fafafa"):
        name = f"flat-{colour[1:]}.jpg"
        Image.new("RGB", (640, 480), colour).save(folder / name)
        labels[name] = described([])
    return labels


def _copies(photo: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    width, height = photo.size
    yield "half", photo.resize((width // 2, height // 2))
    yield "brighter", ImageEnhance.Brightness(photo).enhance(1.25)
    yield "cropped", photo.crop((width // 20, height // 20, width - width // 20, height - height // 20))
    yield "mirrored", ImageOps.mirror(photo)


def _places(folder: Path) -> _ImageLabels:
    labels: _ImageLabels = {}
    for index, (place, latitude, longitude, names, country) in enumerate(PLACES):
        gps = {
            piexif.GPSIFD.GPSLatitudeRef: b"N" if latitude >= 0 else b"S",
            piexif.GPSIFD.GPSLatitude: _sexagesimal(latitude),
            piexif.GPSIFD.GPSLongitudeRef: b"E" if longitude >= 0 else b"W",
            piexif.GPSIFD.GPSLongitude: _sexagesimal(longitude),
        }
        name = f"place-{place}.jpg"
        Image.new("RGB", (64, 48), (index * 30, 120, 90)).save(folder / name, exif=piexif.dump({"GPS": gps}))
        labels[name] = {"kind": "place", "place": {"names": names, "country_code": country}}
    return labels


def _sexagesimal(degrees: float) -> tuple[tuple[int, int], ...]:
    """Return degrees as EXIF has them: rational degrees, minutes and hundredths of seconds."""
    minutes, hundredths = divmod(round(abs(degrees) * 360_000), 6000)
    return (minutes // 60, 1), (minutes % 60, 1), (hundredths, 100)


def _queries() -> Iterator[dict[str, Any]]:
    for query, language, name in QUERIES:
        files = [path.stem for path, names in PHOTOS.items() if name in names]
        yield {"q": query, "language": language, "images": [f"{file}{copy}.jpg" for file in files for copy in _ALL]}
    for query in NONSENSE:
        yield {"q": query, "kind": "nonsense"}


if __name__ == "__main__":
    make_set(Path(sys.argv[1]))
