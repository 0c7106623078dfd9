"""A reachable database that is out of resources also counts as unavailable: a 503, and no attempt of a stage."""

import asyncpg
import pytest
import sqlalchemy as sa

from imago.db.engine import Database, DatabaseUnavailable


async def run(db: Database, *statements: str) -> None:
    async with db.write() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))


async def test_sqlite_on_a_full_disk_is_unavailable(sqlite_db: Database) -> None:
    # SQLite raises a limit below the size of the file to that size.
    filling = "PRAGMA max_page_count = 1", "CREATE TABLE filler AS SELECT zeroblob(1000000) AS bytes"
    with pytest.raises(DatabaseUnavailable):
        await run(sqlite_db, *filling)


async def test_a_read_only_sqlite_file_is_unavailable(sqlite_db: Database) -> None:
    # The same error as on a read-only file system, which would not stop root.
    with pytest.raises(DatabaseUnavailable):
        await run(sqlite_db, "PRAGMA query_only = ON", "DELETE FROM clients")


@pytest.mark.parametrize("code", ["53100", "53200", "58030"], ids=["disk full", "out of memory", "input/output error"])
@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_postgresql_without_resources_is_unavailable(db: Database, code: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        await run(db, f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
    await db.check()


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_a_read_only_postgresql_is_unavailable(db: Database) -> None:
    # As on a standby, and on a demoted primary.
    with pytest.raises(DatabaseUnavailable):
        await run(db, "SET TRANSACTION READ ONLY", "DELETE FROM clients")
    await db.check()


async def test_an_invalid_query_is_not_an_outage(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await run(db, "SELECT nothing FROM nowhere")


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_a_value_that_the_driver_rejects_is_not_an_outage(db: Database) -> None:
    with pytest.raises(asyncpg.DataError):
        async with db.asyncpg_connection() as connection:
            await connection.fetchval("SELECT $1::bigint", "not a number")
    await db.check()
