"""Pages of filtered lists, held against filtering by hand over more images than any shortcut looks through."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.images.filters import ImageFilter
from imago.core.images.full_text import upsert_document
from imago.core.times import utc_now
from imago.db.engine import Database, RowScope
from imago.db.tables import image_tags, images
from tests.support.reads import list_images
from tests.support.samples import make_client

COUNT = 620
FIRST_DAY = datetime(2020, 1, 1)


@dataclass(frozen=True)
class Row:
    """An image as it was made."""

    id: int
    camera: str | None
    has_gps: bool
    taken_at: datetime
    tags: frozenset[str]
    words: frozenset[str]


@pytest.fixture
async def client(db: Database) -> Client:
    """The client whose images are listed."""
    return await make_client(db)


@pytest.fixture
async def rows(db: Database, client: Client) -> list[Row]:
    """Images of the client, the oldest first, and some of another one that has the same of everything."""
    await _seed(db, await make_client(db, "another"), 40)
    return await _seed(db, client, COUNT)


async def _seed(db: Database, client: Client, count: int) -> list[Row]:
    now, made = utc_now(), []
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
            }
            image_id = await connection.scalar(sa.insert(images).values(values).returning(images.c.id))
            assert image_id is not None
            listed = [{"image_id": image_id, "tag": tag, "client_id": client.id} for tag in sorted(tags)]
            await connection.execute(sa.insert(image_tags), listed)
            await upsert_document(connection, client.id, image_id, " ".join(sorted(words)))
            row = Row(image_id, camera, number % 50 == 3, values["taken_at"], frozenset(tags), frozenset(words))
            made.append(row)
    return made


def by_hand(rows: list[Row], wanted: ImageFilter) -> list[int]:
    """Return the ids of the images that meet a filter, newest first."""

    def meets(row: Row) -> bool:
        return (
            (wanted.tag is None or wanted.tag in row.tags)
            and (wanted.q is None or all(any(has.startswith(w) for has in row.words) for w in wanted.q.split()))
            and (wanted.camera is None or (row.camera is not None and wanted.camera in row.camera))
            and (wanted.has_gps is None or wanted.has_gps == row.has_gps)
            and (wanted.taken_to is None or row.taken_at <= wanted.taken_to)
        )

    return [row.id for row in reversed(rows) if meets(row)]


FILTERS = {
    "nothing": ImageFilter(),
    "a tag of all": ImageFilter(tag="common"),
    "a tag of the oldest": ImageFilter(tag="old"),
    "a rare tag": ImageFilter(tag="rare"),
    "a tag of none": ImageFilter(tag="absent"),
    "a word of all": ImageFilter(q="invoice"),
    "a word of the oldest": ImageFilter(q="antique"),
    "a rare word": ImageFilter(q="zebra"),
    "the beginning of a word": ImageFilter(q="zeb"),
    "two words": ImageFilter(q="invoice zebra"),
    "a word of none": ImageFilter(q="absent"),
    "a camera's part": ImageFilter(camera="canon"),
    "one camera": ImageFilter(camera="eos 2"),
    "a camera of the oldest": ImageFilter(camera="agfa"),
    "a camera of none": ImageFilter(camera="leica"),
    "a place": ImageFilter(has_gps=True),
    "a tag and a word": ImageFilter(tag="rare", q="invoice"),
    "a tag and a camera": ImageFilter(tag="old", camera="agfa"),
    "a word and a camera": ImageFilter(q="antique", camera="agfa"),
    "a camera and a place": ImageFilter(camera="canon", has_gps=True),
    "a camera and a time": ImageFilter(camera="canon", taken_to=FIRST_DAY + timedelta(days=100)),
}


async def test_every_filter_gives_what_filtering_by_hand_gives_page_by_page(
    db: Database, client: Client, rows: list[Row]
) -> None:
    for what, wanted in FILTERS.items():
        expected = by_hand(rows, wanted)
        # A few pages of each: every one is a query of its own.
        before, seen = None, []
        for _ in range(3):
            page = await list_images(db, client.id, wanted, limit=23, before=before)
            seen += [item.id for item in page.items]
            before = page.next_before
            if before is None:
                break
        assert seen == expected[: len(seen)], what
        assert (before is None) == (len(seen) == len(expected)), what
        assert len(seen) == min(len(expected), 69), what


async def test_the_last_page_below_all_shortcuts_is_found_as_well(
    db: Database, client: Client, rows: list[Row]
) -> None:
    for wanted in (ImageFilter(q="invoice"), ImageFilter(tag="common"), ImageFilter(camera="agfa")):
        expected = by_hand(rows, wanted)
        page = await list_images(db, client.id, wanted, limit=50, before=expected[-5])
        assert [item.id for item in page.items] == expected[-4:]
