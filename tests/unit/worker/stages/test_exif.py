"""The place of the exif stage."""

import sqlite3
from pathlib import Path

import pytest

from imago.core.images.results import ExifResult, Gps, Place
from imago.geocoding.build import _CREATE
from imago.geocoding.geocoder import Geocoder
from imago.worker.stages.exif import find_place


@pytest.fixture
def geocoder(tmp_path: Path) -> Geocoder:
    """A geocoder that knows one place."""
    database = sqlite3.connect(tmp_path / "places.sqlite")
    with database:
        database.execute(_CREATE)
        row = (173, 11.88, 1, 43.46, "Arezzo", "Tuscany", "IT", 91_589)
        database.execute("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    database.close()
    return Geocoder(tmp_path / "places.sqlite")


def test_the_country_of_a_place_is_named_in_the_clients_language(geocoder: Geocoder) -> None:
    gps = Gps.at(43.467, 11.885, None)
    assert find_place(geocoder, gps, language="en") == Place("Arezzo", "Tuscany", "Italy", "IT")
    assert find_place(geocoder, gps, language="fr") == Place("Arezzo", "Tuscany", "Italie", "IT")
    assert find_place(geocoder, gps, language="de") == Place("Arezzo", "Tuscany", "Italy", "IT")


def test_coordinates_that_are_missing_or_far_from_everything_have_no_place(geocoder: Geocoder) -> None:
    for gps in (Gps(), Gps.at(None, None, 12.0), Gps.at(0.0, 0.0, None), Gps.at(10.0, -40.0, None)):
        assert find_place(geocoder, gps, language="en") is None


def test_a_result_of_an_earlier_release_has_no_place() -> None:
    stored = ExifResult(place=Place("Arezzo", "Tuscany", "Italy", "IT")).to_json()
    assert ExifResult.from_json(stored).place == Place("Arezzo", "Tuscany", "Italy", "IT")
    del stored["place"]
    assert ExifResult.from_json(stored).place is None
