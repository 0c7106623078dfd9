"""Pages of filtered lists, compared with filtering in Python; there are more images than the search window holds."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.search.full_text import upsert_document
from imago.core.times import utc_now
from imago.db.engine import Database, RowScope
from imago.db.tables import image_tags, images
from tests.support.reads import list_images
from tests.support.samples import make_client

COUNT = 620
FIRST_DAY = datetime(2020, 1, 1)


@dataclass(frozen=True)
class Row:
    """A seeded image."""

    id: int
    camera: str | None
    has_gps: bool
    taken_at: datetime
    tags: frozenset[str]
    words: frozenset[str]
    moderation_score: float | None


@pytest.fixture
async def client(db: Database) -> Client:
    """The client whose images are listed."""
    return await make_client(db)


@pytest.fixture
async def rows(db: Database, client: Client) -> list[Row]:
    """The client's images, oldest first; another client has images with the same properties."""
    await _seed(db, await make_client(db, "another"), 40)
    return await _seed(db, client, COUNT)


async def _seed(db: Database, client: Client, count: int) -> list[Row]:
    now, seeded = utc_now(), []
    async with db.write(RowScope(client.id)) as connection:
        for number in range(count):
            old = number < count // 20
            camera = "agfa optima" if old else (None if number % 7 == 0 else f"canon eos {number % 3}")
            tags = {"common"} | ({"old"} if old else set()) | ({"rare"} if number % 200 == 5 else set())
            words = {"invoice"} | ({"antique"} if old else set()) | ({"zebra"} if number % 200 == 5 else set())
            values = {
                "uuid": uuid4(),
                "client_id": client.id,
                "original_name": f"{number}.jpg",
                "content_type": "image/jpeg",
                "format": "jpeg",
                "width": 1,
                "height": 1,
                "frames": 1,
                "size_bytes": 1,
                "sha256": f"{number:064d}",
                "object_key": f"none/{number}",
                "status": "done",
                "created_at": now,
                "camera": camera,
                "has_gps": number % 50 == 3,
                "taken_at": FIRST_DAY + timedelta(days=number),
                "moderation_score": None if number % 9 == 8 else number % 9 / 10,
            }
            image_id = await connection.scalar(sa.insert(images).values(values).returning(images.c.id))
            assert image_id is not None
            listed = [{"image_id": image_id, "tag": tag, "client_id": client.id} for tag in sorted(tags)]
            await connection.execute(sa.insert(image_tags), listed)
            await upsert_document(connection, client.id, image_id, " ".join(sorted(words)))
            row = Row(
                image_id,
                camera,
                number % 50 == 3,
                values["taken_at"],
                frozenset(tags),
                frozenset(words),
                values["moderation_score"],
            )
            seeded.append(row)
    return seeded


def expected_ids(rows: list[Row], filters: ImageFilter) -> list[int]:
    """Return the ids of the images that match a filter, newest first."""

    def matches(row: Row) -> bool:
        return (
            all(tag in row.tags for tag in filters.tags)
            and (filters.q is None or all(any(has.startswith(w) for has in row.words) for w in filters.q.split()))
            and (filters.camera is None or (row.camera is not None and filters.camera in row.camera))
            and (filters.has_gps is None or filters.has_gps == row.has_gps)
            and (filters.taken_to is None or row.taken_at <= filters.taken_to)
            and (filters.moderation_min is None or _score(row) >= filters.moderation_min)
            and (filters.moderation_max is None or 0 <= _score(row) <= filters.moderation_max)
        )

    return [row.id for row in reversed(rows) if matches(row)]


def _score(row: Row) -> float:
    return -1 if row.moderation_score is None else row.moderation_score


FILTERS = {
    "no filter": ImageFilter(),
    "a tag of all images": ImageFilter(tags=("common",)),
    "a tag of the oldest images": ImageFilter(tags=("old",)),
    "a rare tag": ImageFilter(tags=("rare",)),
    "an unknown tag": ImageFilter(tags=("absent",)),
    "a word of all images": ImageFilter(q="invoice"),
    "a word of the oldest images": ImageFilter(q="antique"),
    "a rare word": ImageFilter(q="zebra"),
    "a prefix of a word": ImageFilter(q="zeb"),
    "two words": ImageFilter(q="invoice zebra"),
    "an unknown word": ImageFilter(q="absent"),
    "a part of a camera's name": ImageFilter(camera="canon"),
    "one camera": ImageFilter(camera="eos 2"),
    "the camera of the oldest images": ImageFilter(camera="agfa"),
    "an unknown camera": ImageFilter(camera="leica"),
    "a position": ImageFilter(has_gps=True),
    "two tags": ImageFilter(tags=("common", "rare")),
    "three tags": ImageFilter(tags=("rare", "common", "common")),
    "tags that no image has together": ImageFilter(tags=("old", "absent")),
    "two tags and a word": ImageFilter(tags=("common", "rare"), q="invoice"),
    "a tag and a word": ImageFilter(tags=("rare",), q="invoice"),
    "a tag and a camera": ImageFilter(tags=("old",), camera="agfa"),
    "a word and a camera": ImageFilter(q="antique", camera="agfa"),
    "a camera and a position": ImageFilter(camera="canon", has_gps=True),
    "a score of at least": ImageFilter(moderation_min=0.5),
    "a score of at most, and a tag": ImageFilter(moderation_max=0.3, tags=("common",)),
    "a range of scores and a camera": ImageFilter(moderation_min=0.3, moderation_max=0.7, camera="canon"),
    "a camera and a time": ImageFilter(camera="canon", taken_to=FIRST_DAY + timedelta(days=100)),
}


async def test_every_page_of_every_filter_has_the_expected_images(
    db: Database, client: Client, rows: list[Row]
) -> None:
    for name, filters in FILTERS.items():
        expected = expected_ids(rows, filters)
        # Several pages, because each page is a different query.
        before, seen = None, []
        for _ in range(3):
            page = await list_images(db, client.id, filters, limit=23, before=before)
            seen += [item.id for item in page.items]
            before = page.next_before
            if before is None:
                break
        assert seen == expected[: len(seen)], name
        assert (before is None) == (len(seen) == len(expected)), name
        assert len(seen) == min(len(expected), 69), name


async def test_the_last_page_below_the_search_window_is_complete(db: Database, client: Client, rows: list[Row]) -> None:
    for filters in (ImageFilter(q="invoice"), ImageFilter(tags=("common",)), ImageFilter(camera="agfa")):
        expected = expected_ids(rows, filters)
        page = await list_images(db, client.id, filters, limit=50, before=expected[-5])
        assert [item.id for item in page.items] == expected[-4:]


async def test_the_number_of_camera_names_that_are_searched_is_limited(
    db: Database, client: Client, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imago.core.images.lists.filters.MAX_CAMERAS", 2)
    for camera, found in (("agfa", True), ("eos 0", True), ("eos 1", False)):
        page = await list_images(db, client.id, ImageFilter(camera=camera), limit=5)
        assert bool(page.items) == found, camera
