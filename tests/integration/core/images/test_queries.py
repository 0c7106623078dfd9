"""Concurrent reads share a transaction, and each gets the result that a separate read would return."""

import asyncio
from uuid import uuid4

from imago.core.errors import NotFound
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.queries import ImageReads, ImageRow, Page
from imago.db.engine import Database
from tests.support.samples import make_client, make_image


async def test_concurrent_reads_of_images(db: Database) -> None:
    client, other = await make_client(db), await make_client(db, "other")
    one, two = [await make_image(db, client) for _ in range(2)]
    theirs = await make_image(db, other)
    reads = ImageReads(db)
    requests = [
        (client, one.id),
        (client, two.uuid),
        (client, theirs.id),
        (client, theirs.uuid),
        (client, uuid4()),
        (client, one.uuid),
        (client, one.id),
        (client, 10**12),
        (other, theirs.id),
        (other, one.uuid),
    ]
    results = await asyncio.gather(*(reads.one(who.id, ref) for who, ref in requests), return_exceptions=True)
    assert [result.id if isinstance(result, ImageRow) else type(result) for result in results] == [
        one.id,
        two.id,
        NotFound,
        NotFound,
        NotFound,
        one.id,
        one.id,
        NotFound,
        theirs.id,
        NotFound,
    ]


async def test_concurrent_reads_of_pages(db: Database) -> None:
    client, other = await make_client(db), await make_client(db, "other")
    ids = [(await make_image(db, client)).id for _ in range(5)]
    theirs = (await make_image(db, other)).id
    reads = ImageReads(db)

    async def page(who: int, limit: int, before: int | None = None) -> tuple[list[int], int | None, int]:
        found: Page = await reads.page(who, ImageFilter(), limit=limit, before=before)
        return [image.id for image in found.items], found.next_before, found.usage.images

    assert await asyncio.gather(
        page(client.id, 2),
        page(client.id, 2, ids[3]),
        page(client.id, 2, ids[1]),
        page(client.id, 5),
        page(client.id, 50, ids[0]),
        page(other.id, 2),
        page(other.id, 2, theirs),
    ) == [
        ([ids[4], ids[3]], ids[3], 5),
        ([ids[2], ids[1]], ids[1], 5),
        ([ids[0]], None, 5),
        (ids[::-1], None, 5),
        ([], None, 5),
        ([theirs], None, 1),
        ([], None, 1),
    ]
