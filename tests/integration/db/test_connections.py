"""Pooled connections: replaced when the server ended them, asked when they were idle, lent out without a scope."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.db import scoped_connection as postgres
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable, RowScope
from imago.db.prepared import PreparedStatement
from tests.support.samples import make_client

SCOPES = PreparedStatement(
    sa.select(
        sa.func.current_setting(sa.text("'imago.client'"), sa.true()).label("client"),
        sa.func.current_setting(sa.text("'imago.scope'"), sa.true()).label("everything"),
    )
)

_OTHERS = sa.text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
)


@pytest.fixture
def postgres_db(db: Database) -> Database:
    """The database where it is PostgreSQL: SQLite has neither a server nor a pool of ours."""
    if db.is_sqlite:
        pytest.skip("SQLite has no server that could end a connection")
    return db


async def test_connections_that_the_server_ended_are_replaced_unseen(postgres_db: Database) -> None:
    async with postgres_db.read() as first, postgres_db.read() as second:
        await first.execute(sa.text("SELECT 1"))
        await second.execute(sa.text("SELECT 1"))
        drivers = [(await each.get_raw_connection()).driver_connection for each in (first, second)]
    async with postgres_db.read() as ending:
        assert await ending.scalar(_OTHERS) == 1

        async def closed() -> bool:
            return [driver is not None and driver.is_closed() for driver in drivers].count(True) == 1

        await until(closed, what="the server to close the connection")
        async with postgres_db.read() as replaced:
            assert await replaced.scalar(sa.text("SELECT 1")) == 1


async def _backend(db: Database) -> int:
    async with db.read() as connection:
        return int(await connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


async def test_a_connection_that_was_idle_for_long_is_asked_and_used_again(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_TRUSTED_SECONDS", -1.0)
    assert await _backend(postgres_db) == await _backend(postgres_db)


async def test_a_connection_that_died_while_idle_without_its_socket_saying_so_is_replaced(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a NAT or a load balancer that forgot the connection."""
    monkeypatch.setattr(postgres, "_TRUSTED_SECONDS", -1.0)
    before = await _backend(postgres_db)
    whole, asked = asyncpg.Connection.execute, []

    async def dead_at_first(connection: asyncpg.Connection, statement: str, *arguments: object) -> object:
        asked.append(connection)
        if len(asked) == 1:
            raise TimeoutError
        return await whole(connection, statement, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "execute", dead_at_first)
    assert await _backend(postgres_db) != before
    assert asked, "the idle connection was not asked"


async def test_a_connection_whose_server_has_said_its_last_words_is_told_as_away_and_replaced(
    postgres_db: Database,
) -> None:
    before = await _backend(postgres_db)
    async with postgres_db.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    # What a session sends when its server dies; its end comes through a moment later, and others may ask meanwhile.
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0"
    driver._protocol.data_received(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
    assert not driver.is_closed()
    with pytest.raises(DatabaseUnavailable):
        await _scopes(postgres_db, SYSTEM)
    assert await _backend(postgres_db) != before


async def _scopes(db: Database, scope: RowScope) -> tuple[str | None, str | None]:
    async with db.read(scope) as connection:
        (scopes,) = await SCOPES.fetch(connection, {})
    return scopes.client or None, scopes.everything or None


async def test_a_transaction_that_was_cancelled_while_it_began_leaves_no_scope_to_the_next(
    postgres_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(postgres_db)
    execute = asyncpg.Connection.execute

    async def cancelled_while_beginning(connection: asyncpg.Connection, statement: str, *arguments: object) -> object:
        done = await execute(connection, statement, *arguments)
        if "imago.scope" in statement:
            raise asyncio.CancelledError
        return done

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "execute", cancelled_while_beginning)
        with pytest.raises(asyncio.CancelledError):
            await _scopes(postgres_db, SYSTEM)
    assert await _scopes(postgres_db, RowScope(client.id)) == (str(client.id), None)


async def test_a_transaction_that_fails_gives_back_a_connection_without_transaction_or_scope(
    postgres_db: Database,
) -> None:
    client = await make_client(postgres_db)
    with pytest.raises(sa.exc.DBAPIError):
        async with postgres_db.write(RowScope(client.id)) as connection:
            await connection.execute(sa.text("SELECT 1 / 0"))
    async with postgres_db.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        assert not driver.is_in_transaction()
        assert await connection.scalar(sa.text("SELECT current_setting('imago.client', true)")) in (None, "")
