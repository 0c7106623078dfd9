"""Search by relevance on both databases: tiers, pages and filters."""

import pytest

from imago.core.clients.model import Client
from imago.core.images.changes import delete_image
from imago.core.images.filters import ImageFilter
from imago.core.images.full_text import upsert_document
from imago.core.images.search import Hit, ImageSearch, SearchPage, Tier
from imago.db.engine import Database, RowScope
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
        ("pass dup", ["passport"]),
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
