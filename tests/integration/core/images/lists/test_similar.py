"""Look-alikes on both databases."""

import random

import pytest
import sqlalchemy as sa

from imago.core.errors import NotFound
from imago.core.images.lists.similar import Likeness, _numpy_cosines, _plain_cosines, find_similar, store_hashes
from imago.db.engine import Database, RowScope
from imago.db.tables import image_features, image_hashes
from tests.support.samples import make_client, make_image

HASH = -(2**63) + 0x1234_5678_9ABC_DEF0


def flipped(bits: int) -> int:
    """Return `HASH` with as many bits changed, the sign first."""
    value = (HASH & (2**64 - 1)) ^ int("1" * bits + "0" * (64 - bits) or "0", 2)
    return value - 2**64 if value >= 2**63 else value


async def test_look_alikes_of_the_client_are_found_by_hash_and_by_features(db: Database) -> None:
    mine, other = await make_client(db, "mine"), await make_client(db, "other")
    chance = random.Random(1)
    one = [chance.randrange(-100, 100) for _ in range(128)]
    unrelated = [chance.randrange(-100, 100) for _ in range(128)]
    close = [value + chance.randrange(-20, 20) for value in one]
    seeds = {
        "itself": (HASH, one, "model"),
        "same": (flipped(8), close, "model"),
        "nearly": (flipped(9), unrelated, "model"),
        "scene": (None, close, "model"),
        "another model": (None, close, "other"),
        "nothing": (None, None, "model"),
    }
    ids = {}
    for client in (mine, other):
        for name, (hash_, vector, model) in seeds.items():
            image = await make_image(db, client)
            ids[client.id, name] = image.id
            async with db.write(RowScope(client.id)) as connection:
                await store_hashes(connection, [(image.id, client.id, hash_)])
                if vector is not None:
                    stored = bytes(value & 0xFF for value in vector)
                    row = {"image_id": image.id, "client_id": client.id, "model": model, "vector": stored}
                    await connection.execute(sa.insert(image_features).values(row))
    found = await find_similar(db, mine.id, ids[mine.id, "itself"], limit=10)
    assert [image.id for image, _ in found] == [ids[mine.id, "same"], ids[mine.id, "scene"]]
    assert [(likeness.bits, likeness.same_picture) for _, likeness in found] == [(8, True), (None, False)]
    assert all(likeness.cosine is not None and 0.9 < likeness.cosine < 1 for _, likeness in found)
    assert len(await find_similar(db, mine.id, ids[mine.id, "itself"], limit=1)) == 1
    assert await find_similar(db, mine.id, ids[mine.id, "nothing"], limit=10) == []
    with pytest.raises(NotFound):
        await find_similar(db, mine.id, ids[other.id, "itself"], limit=10)


async def test_a_new_run_replaces_the_hash(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    for hash_, stored in ((HASH, [HASH]), (5, [5]), (None, [])):
        async with db.write(RowScope(client.id)) as connection:
            await store_hashes(connection, [(image.id, client.id, hash_)])
            assert list(await connection.scalars(sa.select(image_hashes.c.hash))) == stored


def test_a_score_never_says_more_than_its_parts() -> None:
    assert Likeness(bits=0).score == 1.0
    assert Likeness(bits=8).score == 0.875
    assert Likeness(cosine=0.9).score == 0.9
    assert Likeness(bits=8, cosine=0.9).score == 0.9


def test_cosines_are_the_same_with_and_without_numpy() -> None:
    chance = random.Random(2)
    one, *others = (bytes(chance.randrange(256) for _ in range(128)) for _ in range(20))
    others += [one, bytes(128)]
    assert _plain_cosines(one, others) == pytest.approx(_numpy_cosines(one, others), abs=1e-5)
    assert _plain_cosines(one, others)[-2:] == pytest.approx([1.0, 0.0])
    assert _numpy_cosines(bytes(128), others)[0] == 0.0
