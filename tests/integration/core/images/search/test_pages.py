"""Search by relevance on both databases: tiers, pages and filters."""

from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.images.changes import delete_image
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.search.full_text import upsert_document
from imago.core.images.search.pages import Hit, ImageSearch, SearchPage, Tier
from imago.core.images.search.query_meaning import WeightedConcept
from imago.core.jobs.stages import ImageStatus
from imago.db.engine import SYSTEM, Database, RowScope
from imago.db.tables import image_concepts, image_tags, images
from tests.support.samples import make_client, make_image

# From the oldest to the newest.
TEXTS = {
    "first": "A dog in a car",
    "catalogue": "Catalogue of cars",
    "cats": "Two cats on a beach",
    "passport": "Passport of Marie Dupont",
    "cat": "a cat",
    "catamaran": "a catamaran on the beach",
}


@pytest.fixture
async def client(db: Database) -> Client:
    """A client with an image of each text; another client has the same."""
    mine, other = await make_client(db), await make_client(db, "another")
    for client in (mine, other):
        for name, text in TEXTS.items():
            image = await make_image(db, client, name=name)
            async with db.write(RowScope(client.id)) as connection:
                await upsert_document(connection, client.id, image.id, text)
    return mine


async def search(db: Database, client: Client, q: str, *, limit: int = 50, after: Hit | None = None) -> SearchPage:
    return await ImageSearch(db).page(client.id, ImageFilter(q=q), limit=limit, after=after)


def names(page: SearchPage) -> list[str]:
    return [image.original_name for image in page.items]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("cat", ["cat", "cats", "catamaran", "catalogue"]),
        ("cats", ["cat", "cats"]),
        ("the cats on the beach", ["cats"]),
        ("cars", ["catalogue", "first"]),
        ("pass", ["passport"]),
        ("dupont pass", ["passport"]),
        ("pass dupont", []),
        ("cata", ["catamaran", "catalogue"]),
        ("dogs", ["first"]),
        ("zebra", []),
        ("'' & | :* NOT (", []),
        ("—", []),
    ],
)
async def test_whole_words_come_before_beginnings(db: Database, client: Client, query: str, found: list[str]) -> None:
    assert names(await search(db, client, query)) == found


async def test_pages_hold_every_image_once(db: Database, client: Client) -> None:
    whole = await search(db, client, "cat")
    assert [hit.tier for hit in whole.hits] == [Tier.WORDS, Tier.WORDS, Tier.BEGINNINGS, Tier.BEGINNINGS]
    for limit in (1, 2, 3, 4):
        found, after = [], None
        for _ in range(5):
            page = await search(db, client, "cat", limit=limit, after=after)
            found += names(page)
            after = page.next_after
            if after is None:
                break
        assert found == names(whole)


async def test_filters_hold_in_each_tier(db: Database, client: Client) -> None:
    page = await ImageSearch(db).page(client.id, ImageFilter(q="cat", has_gps=True), limit=50)
    assert names(page) == []
    page = await ImageSearch(db).page(client.id, ImageFilter(q="cat", has_gps=False), limit=50)
    assert names(page) == ["cat", "cats", "catamaran", "catalogue"]


async def test_a_deleted_image_is_not_found(db: Database, client: Client) -> None:
    (found,) = (await search(db, client, "passport")).items
    await delete_image(db, client, found.id, headers={})
    assert names(await search(db, client, "pass")) == []


class Fixed:
    """A meaning that is the same for every query."""

    def __init__(self, *concepts: tuple[int, int]) -> None:
        self._concepts = [WeightedConcept(*each) for each in concepts]

    async def concepts(self, query: str, *, client_id: int) -> Sequence[WeightedConcept]:
        return self._concepts


# What is recognized in images, by their names: concepts and their scores.
RECOGNIZED = {
    "first": {1: 0.9, 2: 0.4},
    "catalogue": {1: 0.9, 2: 0.4},
    "cats": {2: 0.6},
    "passport": {1: 0.05},
    "cat": {1: 1.0},
    "catamaran": {3: 1.0},
}


@pytest.fixture
async def recognized(db: Database, client: Client) -> Client:
    """The client, of whose images and of whose neighbour's images the content is recognized."""
    async with db.write(SYSTEM) as connection:
        rows = (await connection.execute(sa.select(images.c.id, images.c.client_id, images.c.original_name))).all()
        values = [
            {"image_id": row.id, "client_id": row.client_id, "concept": concept, "score": score}
            for row in rows
            for concept, score in RECOGNIZED[row.original_name].items()
        ]
        await connection.execute(sa.insert(image_concepts), values)
    return client


async def by_meaning(
    db: Database, client: Client, filters: ImageFilter, *, limit: int = 50, after: Hit | None = None
) -> SearchPage:
    return await ImageSearch(db, Fixed((1, 1000), (2, 500))).page(client.id, filters, limit=limit, after=after)


async def test_images_by_meaning_follow_those_by_words_the_likeliest_first(db: Database, recognized: Client) -> None:
    page = await by_meaning(db, recognized, ImageFilter(q="zebra"))
    assert names(page) == ["catalogue", "first", "cat", "cats"]
    assert {hit.tier for hit in page.hits} == {Tier.MEANING}
    page = await by_meaning(db, recognized, ImageFilter(q="cat"))
    assert names(page) == ["cat", "cats", "catamaran", "catalogue", "first"]
    assert page.hits[-1].tier is Tier.MEANING


async def test_pages_by_meaning_hold_every_image_once(db: Database, recognized: Client) -> None:
    for q in ("zebra", "cat", "beach"):
        whole = await by_meaning(db, recognized, ImageFilter(q=q))
        for limit in (1, 2, 3, 5):
            found, after = [], None
            for _ in range(9):
                page = await by_meaning(db, recognized, ImageFilter(q=q), limit=limit, after=after)
                found += names(page)
                after = page.next_after
                if after is None:
                    break
            assert found == names(whole)


async def test_filters_hold_for_images_by_meaning(db: Database, recognized: Client) -> None:
    async with db.write(SYSTEM) as connection:
        await connection.execute(sa.update(images).where(images.c.original_name == "cats").values(has_gps=True))
        (ours,) = (
            await connection.scalars(
                sa.select(images.c.id).where(images.c.original_name == "first", images.c.client_id == recognized.id)
            )
        ).all()
        await connection.execute(sa.insert(image_tags).values(image_id=ours, client_id=recognized.id, tag="holiday"))
    for filters, found in (
        (ImageFilter(q="zebra", has_gps=True), ["cats"]),
        (ImageFilter(q="zebra", tags=("holiday",)), ["first"]),
        (ImageFilter(q="zebra", camera="canon"), []),
        (ImageFilter(q="zebra", status=ImageStatus.FAILED), []),
    ):
        assert names(await by_meaning(db, recognized, filters)) == found


async def test_a_deleted_image_is_not_found_by_meaning(db: Database, recognized: Client) -> None:
    found = (await by_meaning(db, recognized, ImageFilter(q="zebra"))).items[0]
    await delete_image(db, recognized, found.id, headers={})
    assert names(await by_meaning(db, recognized, ImageFilter(q="zebra"))) == ["first", "cat", "cats"]


async def test_no_concepts_find_nothing(db: Database, recognized: Client) -> None:
    page = await ImageSearch(db, Fixed()).page(recognized.id, ImageFilter(q="zebra"), limit=5)
    assert page.items == ()
