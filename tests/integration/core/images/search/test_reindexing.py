"""Images of earlier releases are indexed again, in batches, on both databases."""

import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.search.full_text import upsert_document
from imago.core.images.search.pages import ImageSearch
from imago.core.images.search.reindexing import reindex_batch
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import image_tags, search_reindexing, stage_results
from imago.maintenance.search_reindexer import SearchReindexer
from tests.support.samples import make_client, make_image

VISION = {
    "description": "Image au format paysage, surtout en vert. Sujet probable : chien.",
    "tags": ["chien", "vert"],
    "confidence": 0.9,
    "model_used": "offline/efficientnet-lite0",
    "truncated": False,
}
EXIF = {"camera": {"make": "Canon", "model": "EOS R6", "taken_at": "2024-07-02T10:11:12"}, "gps": {}, "iptc": None}


async def of_earlier_release(db: Database, client: Client, name: str) -> int:
    """Store an image with the document that earlier releases made."""
    image = await make_image(db, client, name=name)
    async with db.write(SYSTEM) as connection:
        for stage, data in (("vision", VISION), ("exif", EXIF)):
            row = {"image_id": image.id, "stage": stage, "run": 1, "client_id": client.id, "data": data}
            await connection.execute(sa.insert(stage_results).values(**row, created_at=utc_now()))
        await upsert_document(connection, client.id, image.id, f"{name} {VISION['description']}")
    return image.id


async def found(db: Database, client: Client, q: str) -> list[str]:
    page = await ImageSearch(db).page(client.id, ImageFilter(q=q), limit=50)
    return [image.original_name for image in page.items]


async def test_images_are_found_by_names_in_both_languages_and_not_by_what_every_description_says(db: Database) -> None:
    client, other = await make_client(db), await make_client(db, "other")
    await of_earlier_release(db, client, "a.jpg")
    await of_earlier_release(db, other, "b.jpg")
    assert await found(db, client, "paysage") == ["a.jpg"]
    assert await SearchReindexer(db).run_once() == 2
    for q in ("dog", "les chiens", "green", "une robe verte"[9:], "canon", "juillet 2024", "july 2024", "a.jpg"):
        assert await found(db, client, q) == ["a.jpg"], q
    for q in ("paysage", "surtout", "probable", "format", "image"):
        assert await found(db, client, q) == [], q
    assert await found(db, other, "dog") == ["b.jpg"]
    async with db.read(SYSTEM) as connection:
        tags = (await connection.scalars(sa.select(image_tags.c.tag).order_by(image_tags.c.tag))).all()
    assert tags == ["chien", "chien", "vert", "vert"]


async def test_batches_are_small_and_each_image_has_its_turn_once(db: Database) -> None:
    client = await make_client(db)
    for number in range(25):
        await make_image(db, client, name=f"{number}.jpg")
    assert await reindex_batch(db) == 20
    await make_image(db, client, name="new.jpg")
    assert [await reindex_batch(db) for _ in range(3)] == [5, 0, 0]
    async with db.read(SYSTEM) as connection:
        assert (await connection.scalars(sa.select(search_reindexing.c.version))).all() == [1]


async def test_an_empty_database_has_nothing_to_index_again(db: Database) -> None:
    assert await reindex_batch(db) == 0
    await make_image(db, await make_client(db))
    assert await reindex_batch(db) == 0
