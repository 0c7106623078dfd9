"""Filters by place and other orders of lists, compared with filtering and sorting in Python, on both databases."""

import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.lists.places import Circle, GeoBox, PlaceFilter, store_places
from imago.core.images.lists.sorting import NEWEST, RELEVANT, SORTS, Position, SortKey
from imago.core.images.queries import ImageReads
from imago.core.images.results import ExifResult, Gps, Place
from imago.core.times import utc_now
from imago.db.engine import Database, RowScope
from imago.db.tables import image_places, images
from tests.support.samples import make_client

COUNT = 90
PLACES = (
    Place("Nice", "Provence-Alpes-Côte d'Azur", "France", "FR"),
    Place("Venice", "Veneto", "Italy", "IT"),
    Place("Suva", None, "Fiji", "FJ"),
)
CENTRES = ((43.70, 7.27), (45.44, 12.33), (-16.8, 179.95))


@dataclass(frozen=True)
class Row:
    """A seeded image; `at` is latitude and longitude."""

    id: int
    name: str
    size: int
    taken: datetime | None
    at: tuple[float, float] | None
    place: Place | None


@pytest.fixture
async def client(db: Database) -> Client:
    """The client whose images are listed."""
    return await make_client(db)


@pytest.fixture
async def rows(db: Database, client: Client) -> list[Row]:
    """The client's images, oldest first; another client has images in the same places."""
    await _seed(db, await make_client(db, "another"), 20)
    return await _seed(db, client, COUNT)


async def _seed(db: Database, client: Client, count: int) -> list[Row]:
    chance, seeded = random.Random(1), []
    async with db.write(RowScope(client.id)) as connection:
        for number in range(count):
            taken = datetime(2020, 1, 1) + timedelta(days=chance.randrange(20)) if number % 4 else None
            name, size = f"{chance.choice('abcABC')}{chance.randrange(5)}.jpg", chance.randrange(10) + 1
            values: dict[str, Any] = {"uuid": uuid4(), "client_id": client.id, "original_name": name, "frames": 1}
            values |= {"content_type": "image/jpeg", "format": "jpeg", "width": 1, "height": 1, "size_bytes": size}
            values |= {"sha256": f"{number:064d}", "object_key": "none", "status": "done", "created_at": utc_now()}
            values |= {"taken_at": taken, "has_gps": number % 3 == 0}
            image_id = await connection.scalar(sa.insert(images).values(values).returning(images.c.id))
            assert image_id is not None
            at = place = None
            if number % 3 == 0:
                centre = CENTRES[number % 9 // 3]
                at = (centre[0] + chance.uniform(-0.2, 0.2), _turned(centre[1] + chance.uniform(-0.2, 0.2)))
                place = PLACES[number % 9 // 3] if number % 2 else None
                exif = ExifResult(gps=Gps.at(*at, None), place=place)
                await store_places(connection, [(image_id, client.id, exif)])
            seeded.append(Row(image_id, name, size, taken, at, place))
    return seeded


def _turned(longitude: float) -> float:
    return longitude - 360 if longitude > 180 else longitude


def km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the distance by the spherical law of cosines, which is another formula than that of the query."""
    (a, b), (c, d) = (tuple(math.radians(degrees) for degrees in point) for point in (one, other))
    cosine = math.sin(a) * math.sin(c) + math.cos(a) * math.cos(c) * math.cos(b - d)
    return 6371.0088 * math.acos(max(-1.0, min(1.0, cosine)))


WHERE: dict[str, tuple[PlaceFilter, Any]] = {
    "a circle": (PlaceFilter(near=Circle(43.7, 7.27, 12)), lambda row: row.at and km(row.at, (43.7, 7.27)) <= 12),
    "a circle across the antimeridian": (
        PlaceFilter(near=Circle(-16.8, -179.99, 15)),
        lambda row: row.at and km(row.at, (-16.8, -179.99)) <= 15,
    ),
    "a circle around a pole": (
        PlaceFilter(near=Circle(90, 0, 5_000)),
        lambda row: row.at and km(row.at, (90, 0)) <= 5_000,
    ),
    "the whole Earth": (PlaceFilter(near=Circle(0, 0, 20_038)), lambda row: row.at),
    "a box": (
        PlaceFilter(bbox=GeoBox(7.2, 43.6, 7.4, 43.8)),
        lambda row: row.at and 43.6 <= row.at[0] <= 43.8 and 7.2 <= row.at[1] <= 7.4,
    ),
    "a box across the antimeridian": (
        PlaceFilter(bbox=GeoBox(179.9, -17, -179.9, -16)),
        lambda row: row.at and -17 <= row.at[0] <= -16 and (row.at[1] >= 179.9 or row.at[1] <= -179.9),
    ),
    "a place, which is no part of another's name": (
        PlaceFilter(place="nice"),
        lambda row: row.place is not None and row.place.name == "Nice",
    ),
    "a region in other letters": (
        PlaceFilter(place="COTE D’AZUR"),
        lambda row: row.place is not None and row.place.name == "Nice",
    ),
    "no word": (PlaceFilter(place="%"), lambda row: False),
    "a country": (PlaceFilter(country="IT"), lambda row: row.place is not None and row.place.country_code == "IT"),
    "a country and a circle": (
        PlaceFilter(country="FR", near=Circle(43.7, 7.27, 12)),
        lambda row: row.place is not None and row.place.country_code == "FR" and km(row.at, (43.7, 7.27)) <= 12,
    ),
}


async def test_every_filter_of_places_finds_the_expected_images(db: Database, client: Client, rows: list[Row]) -> None:
    reads = ImageReads(db)
    for name, (where, matches) in WHERE.items():
        expected = [row.id for row in reversed(rows) if matches(row)]
        assert name == "no word" or len(expected) > 0, name
        for filters in (ImageFilter(where=where), ImageFilter(where=where, has_gps=True)):
            first = await reads.page(client.id, filters, limit=3)
            assert [item.id for item in first.items] == expected[:3], name
            if first.next_before is not None:
                rest = await reads.page(client.id, filters, limit=100, before=first.next_before)
                assert [item.id for item in rest.items] == expected[3:], name
            assert await reads.count(client.id, filters) == len(expected), name
    assert await reads.count(client.id, ImageFilter(has_gps=False)) == COUNT - COUNT // 3


@pytest.mark.parametrize("sort", [sort for sort in SORTS if sort not in (NEWEST, RELEVANT)], ids=str)
async def test_every_order_lists_all_images_page_by_page(
    db: Database, client: Client, rows: list[Row], sort: Any
) -> None:
    def value(row: Row) -> Any:
        return {"created": row.id, "taken": row.taken, "size": row.size, "name": row.name.lower()}[sort.key]

    known = sorted((row for row in rows if value(row) is not None), key=lambda row: (value(row), row.id))
    unknown = [row for row in rows if value(row) is None]
    expected = [row.id for part in (known, unknown) for row in (reversed(part) if sort.descending else part)]
    seen, after = [], None
    while True:
        page = await ImageReads(db).sorted_page(client.id, ImageFilter(), sort, limit=17, after=after)
        seen += [item.id for item in page.items]
        after = page.next_after
        if after is None:
            break
    assert seen == expected
    assert bool(unknown) == (sort.key is SortKey.TAKEN)


async def test_a_page_continues_after_its_last_image_was_deleted(db: Database, client: Client, rows: list[Row]) -> None:
    sort = next(sort for sort in SORTS if str(sort) == "size")
    reads = ImageReads(db)
    everything = await reads.sorted_page(client.id, ImageFilter(), sort, limit=COUNT, after=None)
    first = await reads.sorted_page(client.id, ImageFilter(), sort, limit=10, after=None)
    assert isinstance(first.next_after, Position)
    async with db.write(RowScope(client.id)) as connection:
        await connection.execute(sa.delete(images).where(images.c.id == first.items[-1].id))
    rest = await reads.sorted_page(client.id, ImageFilter(), sort, limit=COUNT, after=first.next_after)
    assert [item.id for item in rest.items] == [item.id for item in everything.items[10:]]


async def test_a_new_run_replaces_the_place_of_an_image(db: Database, client: Client, rows: list[Row]) -> None:
    row = next(row for row in rows if row.place is not None)
    async with db.write(RowScope(client.id)) as connection:
        await store_places(connection, [(row.id, client.id, ExifResult(gps=Gps.at(48.85, 2.35, None)))])
        query = sa.select(image_places).where(image_places.c.image_id == row.id)
        stored = (await connection.execute(query)).one()
        assert (stored.latitude, stored.longitude, stored.names, stored.country) == (48.85, 2.35, None, None)
        await store_places(connection, [(row.id, client.id, ExifResult())])
        assert (await connection.execute(query)).one_or_none() is None
