"""Prepared statements behave the same on both databases, and run inside the transaction of their connection."""

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

on_postgresql = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


def tombstone(key: str) -> dict[str, object]:
    now = utc_now()
    return {"object_key": key, "created_at": now, "due_at": now, "final_at": now + timedelta(hours=1)}


async def test_rows_have_the_values_and_types_that_were_inserted(db: Database) -> None:
    values = tombstone("a")
    async with db.write(SYSTEM) as connection:
        assert await ADD.scalar(connection, values) is not None
        row = await BY_KEY.one_or_none(connection, {"of_key": "a"})
        assert row is not None
        assert (row.object_key, row.created_at, row.final_at) == ("a", values["created_at"], values["final_at"])
        assert await BY_KEY.one_or_none(connection, {"of_key": "b"}) is None
        assert await BY_KEY.scalar(connection, {"of_key": "b"}) is None


async def test_sets_of_values_are_executed_in_order_and_return_their_rows(db: Database) -> None:
    async with db.write(SYSTEM) as connection:
        added = await ADD.fetchmany(connection, [tombstone("a"), tombstone("b"), tombstone("c")])
        assert sorted((row.id, row.object_key) for row in added) == [
            (row.id, key) for row, key in zip(sorted(added, key=lambda row: row.id), "abc", strict=True)
        ]
        await RENAME.executemany(connection, [{"of_key": "a", "object_key": "x"}, {"of_key": "x", "object_key": "y"}])
        assert await RENAME.execute(connection, {"of_key": "y", "object_key": "z"}) == 1
        assert await RENAME.execute(connection, {"of_key": "y", "object_key": "z"}) == 0
        await RENAME.executemany(connection, [])
        assert await ADD.fetchmany(connection, []) == ()


async def test_their_changes_are_rolled_back_with_the_transaction(db: Database) -> None:
    async def add_and_fail() -> None:
        async with db.write(SYSTEM) as connection:
            await ADD.scalar(connection, tombstone("a"))
            raise LookupError

    with pytest.raises(LookupError):
        await add_and_fail()
    async with db.write(SYSTEM) as connection:
        assert await BY_KEY.one_or_none(connection, {"of_key": "a"}) is None
        await ADD.scalar(connection, tombstone("kept"))
    async with db.read(SYSTEM) as connection:
        assert await BY_KEY.one_or_none(connection, {"of_key": "kept"}) is not None


@on_postgresql
async def test_the_first_statement_of_a_transaction_has_its_row_scope(db: Database) -> None:
    mine, other = await make_client(db, "mine"), await make_client(db, "other")
    for client in (mine, other):
        await make_image(db, client)
    async with db.read(RowScope(mine.id)) as connection:
        assert len(await NAMES.fetch(connection, {})) == 1
    async with db.read(RowScope(uuid4().int % 10**6 + 10**6)) as connection:
        assert await NAMES.fetch(connection, {}) == []
    async with db.engine.connect() as connection:
        assert await NAMES.fetch(connection, {}) == [], "the row scope outlived its transaction"


async def test_a_failed_statement_rolls_back_the_transaction_and_the_connection_is_reused(db: Database) -> None:
    async with db.write(SYSTEM) as connection:
        await ADD.scalar(connection, tombstone("a"))
    missing = PreparedStatement(sa.insert(tombstones), columns=("object_key",))

    async def rename_and_fail() -> None:
        async with db.write(SYSTEM) as connection:
            await RENAME.execute(connection, {"of_key": "a", "object_key": "b"})
            await missing.execute(connection, {"object_key": "c"})

    with pytest.raises(Exception, match=r"(?i)null"):
        await rename_and_fail()
    async with db.read(SYSTEM) as connection:
        assert await BY_KEY.one_or_none(connection, {"of_key": "a"}) is not None


@on_postgresql
async def test_a_statement_whose_text_depends_on_its_values_is_rejected(db: Database) -> None:
    listed = PreparedStatement(sa.select(tombstones.c.id).where(tombstones.c.object_key.in_(["a", "b"])))
    async with db.read(SYSTEM) as connection:
        with pytest.raises(TypeError):
            await listed.fetch(connection, {})
