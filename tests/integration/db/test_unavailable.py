"""A database that is there and can't do what it is asked for is away as well: a 503, and no try that counts."""

import asyncpg
import pytest
import sqlalchemy as sa

from imago.db.engine import Database, DatabaseUnavailable


async def run(db: Database, *statements: str) -> None:
    async with db.write() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))


async def test_a_full_disk_under_sqlite_is_told_as_away(sqlite_db: Database) -> None:
    # A limit below what the file has becomes what it has.
    filling = "PRAGMA max_page_count = 1", "CREATE TABLE filler AS SELECT zeroblob(1000000) AS bytes"
    with pytest.raises(DatabaseUnavailable):
        await run(sqlite_db, *filling)


async def test_a_sqlite_file_that_cant_be_written_is_told_as_away(sqlite_db: Database) -> None:
    # What a read-only file system does to us, without being one (root writes to read-only files).
    with pytest.raises(DatabaseUnavailable):
        await run(sqlite_db, "PRAGMA query_only = ON", "DELETE FROM clients")


@pytest.mark.parametrize("code", ["53100", "53200", "58030"], ids=["disk full", "out of memory", "input/output error"])
@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_a_postgresql_that_has_nothing_left_is_told_as_away(db: Database, code: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        await run(db, f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
    await db.check()


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_a_postgresql_that_takes_no_writes_is_told_as_away(db: Database) -> None:
    # As a standby has it, and a primary after its demotion.
    with pytest.raises(DatabaseUnavailable):
        await run(db, "SET TRANSACTION READ ONLY", "DELETE FROM clients")
    await db.check()


async def test_a_mistake_of_ours_is_not_taken_for_an_outage(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await run(db, "SELECT nothing FROM nowhere")


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_a_value_that_the_driver_refuses_is_not_taken_for_an_outage(db: Database) -> None:
    with pytest.raises(asyncpg.DataError):
        async with db.asyncpg_connection() as connection:
            await connection.fetchval("SELECT $1::bigint", "no number")
    await db.check()
