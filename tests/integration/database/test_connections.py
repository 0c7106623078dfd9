"""Pooled connections: replaced when the server ended them, asked when they were idle, lent out without a scope."""

import pytest
import sqlalchemy as sa
from tests.support.samples import make_client
from tests.support.waiting import until

from imago.database import postgres
from imago.database.engine import Database, Scope

_OTHERS = sa.text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
)


async def test_connections_that_the_server_ended_are_replaced_unseen(db: Database) -> None:
    if db.is_sqlite:
        return
    async with db.read() as first, db.read() as second:
        await first.execute(sa.text("SELECT 1"))
        await second.execute(sa.text("SELECT 1"))
        drivers = [(await each.get_raw_connection()).driver_connection for each in (first, second)]
    async with db.read() as ending:
        assert await ending.scalar(_OTHERS) == 1

        async def closed() -> bool:
            return [driver is not None and driver.is_closed() for driver in drivers].count(True) == 1

        await until(closed, what="the server to close the connection")
        async with db.read() as replaced:
            assert await replaced.scalar(sa.text("SELECT 1")) == 1


async def test_a_connection_that_was_idle_for_long_is_asked_and_used_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if db.is_sqlite:
        return
    monkeypatch.setattr(postgres, "_TRUSTED_SECONDS", -1.0)
    await db.check()
    await db.check()


async def test_a_transaction_that_fails_gives_back_a_connection_without_transaction_or_scope(db: Database) -> None:
    if db.is_sqlite:
        return
    client = await make_client(db)
    with pytest.raises(sa.exc.DBAPIError):
        async with db.write(Scope(client.id)) as connection:
            await connection.execute(sa.text("SELECT 1 / 0"))
    async with db.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        assert not driver.is_in_transaction()
        assert await connection.scalar(sa.text("SELECT current_setting('imago.client', true)")) in (None, "")
