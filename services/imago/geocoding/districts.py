"""Leave districts of cities out of GeoNames' places: its file marks them as places like any other."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from imago.geocoding.geocoder import MAX_KM, distance_from

City = Mapping[str, Any]

# Smaller places have no districts that GeoNames lists.
_CITY_POPULATION = 100_000
_NUMBERED = re.compile(r"[0-9]")


def without_districts(cities: Collection[City]) -> Iterator[City]:
    """Yield the places that are no district: neither numbered (`Lyon 05`) nor named after a city nearby."""
    large: dict[tuple[str, str], list[City]] = {}
    for city in cities:
        if city["population"] >= _CITY_POPULATION:
            large.setdefault((city["countrycode"], city["name"]), []).append(city)
    for city in cities:
        if not _NUMBERED.search(city["name"]) and not any(_is_near(city, other) for other in _namesakes(city, large)):
            yield city


def place_name(city: City) -> str:
    """Return the name of a place; Japanese ones without the word for `city`."""
    name: str = city["name"]
    return name.removesuffix("-shi") if city["countrycode"] == "JP" else name


def _namesakes(city: City, large: Mapping[tuple[str, str], list[City]]) -> Iterator[City]:
    """Yield the cities whose name this one's begins with, as `Budapest` does for `Budapest XII. kerület`."""
    words = city["name"].split(" ")
    for count in range(1, len(words)):
        yield from large.get((city["countrycode"], " ".join(words[:count])), ())


def _is_near(city: City, other: City) -> bool:
    return distance_from(city["latitude"], city["longitude"])(other["latitude"], other["longitude"]) <= MAX_KM
