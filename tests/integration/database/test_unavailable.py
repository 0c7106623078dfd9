"""A database that is there and can't do what it is asked for is away as well: a 503, and no try that counts."""

import pytest
import sqlalchemy as sa

from imago.database.engine import Database, DatabaseUnavailable


async def test_a_full_disk_under_sqlite_is_told_as_away(sqlite_db: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with sqlite_db.write() as connection:
            pages = await connection.scalar(sa.text("PRAGMA page_count"))
            await connection.execute(sa.text(f"PRAGMA max_page_count = {pages}"))
            await connection.execute(sa.text("CREATE TABLE filler AS SELECT zeroblob(1000000) AS bytes"))


async def test_a_sqlite_file_that_cant_be_written_is_told_as_away(sqlite_db: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with sqlite_db.write() as connection:
            # What a read-only file system does to us, without being one (root writes to read-only files).
            await connection.execute(sa.text("PRAGMA query_only = ON"))
            await connection.execute(sa.text("DELETE FROM clients"))


@pytest.mark.parametrize("code", ["53100", "53200", "58030"], ids=["disk full", "out of memory", "input/output error"])
@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_a_postgresql_that_has_nothing_left_is_told_as_away(db: Database, code: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with db.write() as connection:
            await connection.execute(sa.text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"))
    await db.check()


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_a_postgresql_that_takes_no_writes_is_told_as_away(db: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with db.write() as connection:
            # As a standby has it, and a primary after its demotion.
            await connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            await connection.execute(sa.text("DELETE FROM clients"))
    await db.check()


async def test_a_mistake_of_ours_is_not_taken_for_an_outage(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        async with db.read() as connection:
            await connection.execute(sa.text("SELECT nothing FROM nowhere"))
