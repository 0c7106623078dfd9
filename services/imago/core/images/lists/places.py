"""The places of images, which the filters `near`, `bbox`, `place` and `country` compare with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.results import ExifResult, Place
from imago.core.images.search.text_folding import fold
from imago.db.prepared import PreparedStatement
from imago.db.tables import image_places

_EARTH_KM = 6371.0088
FARTHEST_KM = 20_038.0
"""Half of the Earth's circumference: no point is farther away."""

_DELETE = PreparedStatement(sa.delete(image_places).where(image_places.c.image_id == sa.bindparam("of_image")))
_COLUMNS = ("image_id", "client_id", "latitude", "longitude", "names", "country")
_INSERT = PreparedStatement(sa.insert(image_places), columns=_COLUMNS)


@dataclass(frozen=True)
class Circle:
    """The points at most `km` kilometres from a point in degrees."""

    latitude: float
    longitude: float
    km: float


@dataclass(frozen=True)
class GeoBox:
    """The points between two parallels and two meridians, in degrees.

    A `west` greater than `east` means a box across the antimeridian (RFC 7946, section 5.2).
    """

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True)
class PlaceFilter:
    """Where an image must have been taken; None means anywhere.

    `place` are whole words of the place's or its region's name, and `country` is a code of two letters.
    """

    near: Circle | None = None
    bbox: GeoBox | None = None
    place: str | None = None
    country: str | None = None


ANYWHERE = PlaceFilter()


async def store_places(connection: AsyncConnection, results: Sequence[tuple[int, int, ExifResult]]) -> None:
    """Replace the places of images, given as (image id, client id, EXIF result)."""
    await _DELETE.executemany(connection, [{"of_image": image_id} for image_id, _, _ in results])
    rows = [
        dict(
            zip(
                _COLUMNS, (image_id, client_id, exif.gps.latitude, exif.gps.longitude, *_named(exif.place)), strict=True
            )
        )
        for image_id, client_id, exif in results
        if exif.gps.has_gps
    ]
    await _INSERT.executemany(connection, rows)


def place_conditions(client_id: int, wanted: PlaceFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on `image_places` for a filter."""
    places = image_places.c
    conditions: list[sa.ColumnElement[bool]] = [places.client_id == client_id]
    if wanted.near is not None:
        conditions += [_between_latitudes(wanted.near), _within(wanted.near)]
    if wanted.bbox is not None:
        conditions += _inside(wanted.bbox)
    if wanted.place is not None:
        words = fold(wanted.place)
        conditions.append(places.names.contains(f" {words} ") if words else sa.false())
    if wanted.country is not None:
        conditions.append(places.country == wanted.country)
    return conditions


def _named(place: Place | None) -> tuple[str | None, str | None]:
    """Return the words of a place's names, each between spaces, and its country's code."""
    if place is None:
        return None, None
    return " | ".join(["", *(fold(name) for name in (place.name, place.admin) if name), ""]), place.country_code


def _between_latitudes(circle: Circle) -> sa.ColumnElement[bool]:
    reach = math.degrees(circle.km / _EARTH_KM)
    return image_places.c.latitude.between(circle.latitude - reach, circle.latitude + reach)


def _within(circle: Circle) -> sa.ColumnElement[bool]:
    """Compare the haversine of the distance, which grows with the distance up to half of the circumference."""
    places = image_places.c
    limit = math.sin(min(circle.km / (2 * _EARTH_KM), math.pi / 2)) ** 2
    north = sa.func.sin(sa.func.radians(places.latitude - circle.latitude) / 2)
    east = sa.func.sin(sa.func.radians(places.longitude - circle.longitude) / 2)
    parallels = math.cos(math.radians(circle.latitude)) * sa.func.cos(sa.func.radians(places.latitude))
    return north * north + parallels * east * east <= limit


def _inside(box: GeoBox) -> list[sa.ColumnElement[bool]]:
    places = image_places.c
    meridians: sa.ColumnElement[bool]
    if box.west <= box.east:
        meridians = places.longitude.between(box.west, box.east)
    else:
        meridians = sa.or_(places.longitude >= box.west, places.longitude <= box.east)
    return [places.latitude.between(box.south, box.north), meridians]
