"""Find the inhabited place that coordinates belong to."""

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The mean radius of the Earth (IUGG), and the length of a degree of latitude on it.
_EARTH_KM = 6371.0088
_DEGREE_KM = math.radians(1) * _EARTH_KM

MAX_KM = 25.0
"""How far from a place's centre an image is still said to be there."""

# The density of a European city, which turns a population into a radius: √(population / 3,500 π) km.
_PEOPLE_PER_KM2 = 3500.0
# GeoNames has no population of many small places.
_LEAST_POPULATION = 1000
# The centre of a city is known to about a kilometre. Added to all distances, it keeps a district whose centre is near
# from winning over the city around it: 107 of the tests' 112 sights get the right name with it, 104 without it.
_CENTRE_KM = 1.0

BANDS_PER_DEGREE = 4
"""The file's index has the places of each quarter of a degree of latitude by their longitude."""

_SELECT = (
    "SELECT name, region, country, population, latitude, longitude FROM places"
    " WHERE band = ? AND longitude BETWEEN ? AND ?"
)


@dataclass(frozen=True)
class FoundPlace:
    """An inhabited place; `region` is its first-order division, `country` is an ISO 3166-1 code of two letters."""

    name: str
    region: str | None
    country: str
    population: int
    km: float
    """The distance to its centre."""


class Geocoder:
    """Looks places up in the file that `geocoding.build` makes. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file; raise sqlite3.Error if it is missing or is not such a file."""
        # The file is replaced as a whole and never changed, so SQLite needs no locks.
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._lock = threading.Lock()
        self._database.execute(f"{_SELECT} LIMIT 1", (0, 0, 0))

    def place(self, latitude: float, longitude: float) -> FoundPlace | None:
        """Return the place of coordinates in degrees; None at sea, in the wilderness and for invalid coordinates.

        Of the places within 25 km in the country of the nearest one, it is the one whose distance is the smallest part
        of its radius: a city has districts and suburbs with names and centres of their own.
        """
        near = [place for place in self._around(latitude, longitude) if place.km <= MAX_KM]
        if not near:
            return None
        country = min(near, key=lambda place: place.km).country
        return min((place for place in near if place.country == country), key=_distance_in_radii)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _around(self, latitude: float, longitude: float) -> Iterator[FoundPlace]:
        distance = distance_from(latitude, longitude)
        for number, west, east in _searched(latitude, longitude):
            with self._lock:
                rows = self._database.execute(_SELECT, (number, west, east)).fetchall()
            for name, region, country, population, *centre in rows:
                yield FoundPlace(name, region, country, population, distance(*centre))


def _searched(latitude: float, longitude: float) -> Iterator[tuple[int, float, float]]:
    """Return bands with their western and eastern ends that contain all places within 25 km."""
    # (0, 0) is what cameras without a fix write.
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
        return
    reach = MAX_KM / _DEGREE_KM
    # Towards a pole the degrees of longitude get shorter, and around it all are near.
    shortest = math.cos(math.radians(min(90.0, abs(latitude) + reach)))
    span = reach / shortest if shortest > reach / 180 else 180.0
    for turn in (-360.0, 0.0, 360.0):
        west, east = longitude + turn - span, longitude + turn + span
        if west <= 180 and east >= -180:
            yield from ((number, west, east) for number in range(band(latitude - reach), band(latitude + reach) + 1))


def band(latitude: float) -> int:
    """Return the number of the band of latitude that the index has a place in."""
    return math.floor(latitude * BANDS_PER_DEGREE)


def distance_from(latitude: float, longitude: float) -> Callable[[float, float], float]:
    """Return a function of the distance in kilometres to another point (haversine formula on a sphere)."""
    here = math.cos(math.radians(latitude))

    def distance(to_latitude: float, to_longitude: float) -> float:
        north, east = math.radians(to_latitude - latitude), math.radians(to_longitude - longitude)
        half_chord = math.sin(north / 2) ** 2 + here * math.cos(math.radians(to_latitude)) * math.sin(east / 2) ** 2
        return 2 * _EARTH_KM * math.asin(min(1.0, math.sqrt(half_chord)))

    return distance


def _distance_in_radii(place: FoundPlace) -> float:
    people = max(place.population, _LEAST_POPULATION)
    return (place.km + _CENTRE_KM) / math.sqrt(people / (_PEOPLE_PER_KM2 * math.pi))
