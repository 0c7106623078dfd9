"""Statements that are built once: the same on both databases; on PostgreSQL too, inside the transaction given."""

from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database, RowScope
from imago.db.prepared import PreparedStatement
from imago.db.tables import images, tombstones
from tests.support.samples import make_client, make_image

ADD = PreparedStatement(
    sa.insert(tombstones).returning(tombstones.c.id, tombstones.c.object_key),
    columns=("object_key", "created_at", "due_at", "final_at"),
)
BY_KEY = PreparedStatement(sa.select(tombstones).where(tombstones.c.object_key == sa.bindparam("of_key")))
RENAME = PreparedStatement(
    sa.update(tombstones)
    .where(tombstones.c.object_key == sa.bindparam("of_key"))
    .values(object_key=sa.bindparam("object_key"))
)
NAMES = PreparedStatement(sa.select(images.c.original_name).order_by(images.c.id))


def grave(key: str) -> dict[str, object]:
    now = utc_now()
    return {"object_key": key, "created_at": now, "due_at": now, "final_at": now + timedelta(hours=1)}


async def test_rows_have_the_values_and_types_that_went_in(db: Database) -> None:
    given = grave("a")
    async with db.write(SYSTEM) as connection:
        assert await ADD.scalar(connection, given) is not None
        row = await BY_KEY.one_or_none(connection, {"of_key": "a"})
        assert row is not None
        assert (row.object_key, row.created_at, row.final_at) == ("a", given["created_at"], given["final_at"])
        assert await BY_KEY.one_or_none(connection, {"of_key": "b"}) is None
        assert await BY_KEY.scalar(connection, {"of_key": "b"}) is None


async def test_many_are_executed_in_order_and_give_their_rows(db: Database) -> None:
    async with db.write(SYSTEM) as connection:
        added = await ADD.fetchmany(connection, [grave("a"), grave("b"), grave("c")])
        assert sorted((row.id, row.object_key) for row in added) == [
            (row.id, key) for row, key in zip(sorted(added, key=lambda row: row.id), "abc", strict=True)
        ]
        await RENAME.executemany(connection, [{"of_key": "a", "object_key": "x"}, {"of_key": "x", "object_key": "y"}])
        assert await RENAME.execute(connection, {"of_key": "y", "object_key": "z"}) == 1
        assert await RENAME.execute(connection, {"of_key": "y", "object_key": "z"}) == 0
        await RENAME.executemany(connection, [])
        assert await ADD.fetchmany(connection, []) == ()


async def test_what_they_did_goes_with_the_transaction(db: Database) -> None:
    async def add_and_fail() -> None:
        async with db.write(SYSTEM) as connection:
            await ADD.scalar(connection, grave("a"))
            raise LookupError

    with pytest.raises(LookupError):
        await add_and_fail()
    async with db.write(SYSTEM) as connection:
        assert await BY_KEY.one_or_none(connection, {"of_key": "a"}) is None
        await ADD.scalar(connection, grave("kept"))
    async with db.read(SYSTEM) as connection:
        assert await BY_KEY.one_or_none(connection, {"of_key": "kept"}) is not None


async def test_the_first_statement_of_a_transaction_has_its_scope(db: Database) -> None:
    if db.is_sqlite:
        return
    mine, other = await make_client(db, "mine"), await make_client(db, "other")
    image, _ = await make_image(db, mine), await make_image(db, other)
    async with db.read(RowScope(mine.id)) as connection:
        assert len(await NAMES.fetch(connection, {})) == 1
    async with db.read(RowScope(uuid4().int % 10**6 + 10**6)) as connection:
        assert await NAMES.fetch(connection, {}) == []
    async with db.engine.connect() as connection:
        assert await NAMES.fetch(connection, {}) == [], "the scope outlived its transaction"
    assert image is not None


async def test_after_a_failure_nothing_more_is_executed_and_the_connection_is_used_again(db: Database) -> None:
    async with db.write(SYSTEM) as connection:
        await ADD.scalar(connection, grave("a"))
    missing = PreparedStatement(sa.insert(tombstones), columns=("object_key",))

    async def rename_and_fail() -> None:
        async with db.write(SYSTEM) as connection:
            await RENAME.execute(connection, {"of_key": "a", "object_key": "b"})
            await missing.execute(connection, {"object_key": "c"})

    with pytest.raises(Exception, match=r"(?i)null"):
        await rename_and_fail()
    async with db.read(SYSTEM) as connection:
        assert await BY_KEY.one_or_none(connection, {"of_key": "a"}) is not None


async def test_a_statement_whose_text_depends_on_its_values_is_refused(db: Database) -> None:
    if db.is_sqlite:
        return
    listed = PreparedStatement(sa.select(tombstones.c.id).where(tombstones.c.object_key.in_(["a", "b"])))
    async with db.read(SYSTEM) as connection:
        with pytest.raises(TypeError):
            await listed.fetch(connection, {})
