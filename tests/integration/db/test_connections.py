"""Pooled connections are replaced when dead, pinged when idle, and keep no row scope between transactions."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.db import scoped_connection
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable, RowScope
from imago.db.prepared import PreparedStatement
from tests.support.samples import make_client

SCOPES = PreparedStatement(
    sa.select(
        sa.func.current_setting(sa.text("'imago.client'"), sa.true()).label("client"),
        sa.func.current_setting(sa.text("'imago.scope'"), sa.true()).label("scope"),
    )
)

TERMINATE_OTHERS = sa.text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
)


# SQLite has no server that could end a connection, and no row scopes.
pytestmark = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


async def test_a_connection_that_the_server_closed_is_replaced(db: Database) -> None:
    async with db.read() as first, db.read() as second:
        await first.execute(sa.text("SELECT 1"))
        await second.execute(sa.text("SELECT 1"))
        drivers = [(await each.get_raw_connection()).driver_connection for each in (first, second)]
    async with db.read() as terminating:
        assert await terminating.scalar(TERMINATE_OTHERS) == 1

        async def closed() -> bool:
            return [driver is not None and driver.is_closed() for driver in drivers].count(True) == 1

        await until(closed, what="the server to close the connection")
        async with db.read() as replaced:
            assert await replaced.scalar(sa.text("SELECT 1")) == 1


async def _backend(db: Database) -> int:
    async with db.read() as connection:
        return int(await connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


@pytest.fixture
def pings(monkeypatch: pytest.MonkeyPatch) -> list[asyncpg.Connection]:
    """The connections that were pinged, in order."""
    pinged: list[asyncpg.Connection] = []
    execute = asyncpg.Connection.execute

    async def recorded(connection: asyncpg.Connection, statement: str, *arguments: object) -> object:
        if statement == "SELECT 1":
            pinged.append(connection)
        return await execute(connection, statement, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "execute", recorded)
    return pinged


async def test_an_idle_connection_is_pinged_once_and_used_again(
    db: Database, monkeypatch: pytest.MonkeyPatch, pings: list[asyncpg.Connection]
) -> None:
    before = await _backend(db)
    monkeypatch.setattr(scoped_connection, "_PING_AFTER_SECONDS", 0.05)
    await asyncio.sleep(0.1)
    assert await _backend(db) == before
    assert [connection.get_server_pid() for connection in pings] == [before]


async def test_a_connection_in_recent_use_is_not_pinged(db: Database, pings: list[asyncpg.Connection]) -> None:
    assert await _backend(db) == await _backend(db)
    assert pings == []


async def test_an_idle_connection_that_does_not_answer_its_ping_is_replaced(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket stays open behind a NAT or a load balancer that has dropped the connection."""
    monkeypatch.setattr(scoped_connection, "_PING_AFTER_SECONDS", -1.0)
    before = await _backend(db)
    execute, pinged = asyncpg.Connection.execute, []

    async def first_times_out(connection: asyncpg.Connection, statement: str, *arguments: object) -> object:
        pinged.append(connection)
        if len(pinged) == 1:
            raise TimeoutError
        return await execute(connection, statement, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "execute", first_times_out)
    assert await _backend(db) != before
    assert pinged, "the idle connection was not pinged"


async def test_a_connection_with_a_fatal_error_is_unavailable_and_then_replaced(db: Database) -> None:
    before = await _backend(db)
    async with db.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    # The error that a session sends when its server stops. It closes the connection a moment later; until then, the
    # connection can still be checked out.
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0"
    driver._protocol.data_received(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
    assert not driver.is_closed()
    with pytest.raises(DatabaseUnavailable):
        await _scopes(db, SYSTEM)
    assert await _backend(db) != before


async def _scopes(db: Database, scope: RowScope) -> tuple[str | None, str | None]:
    async with db.read(scope) as connection:
        (scopes,) = await SCOPES.fetch(connection, {})
    return scopes.client or None, scopes.scope or None


async def test_a_transaction_cancelled_while_it_began_leaves_no_scope_to_the_next(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(db)
    execute = asyncpg.Connection.execute

    async def cancelled_while_beginning(connection: asyncpg.Connection, statement: str, *arguments: object) -> object:
        done = await execute(connection, statement, *arguments)
        if "imago.scope" in statement:
            raise asyncio.CancelledError
        return done

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "execute", cancelled_while_beginning)
        with pytest.raises(asyncio.CancelledError):
            await _scopes(db, SYSTEM)
    assert await _scopes(db, RowScope(client.id)) == (str(client.id), None)


async def test_a_failed_transaction_returns_its_connection_without_transaction_or_scope(
    db: Database,
) -> None:
    client = await make_client(db)
    with pytest.raises(sa.exc.DBAPIError):
        async with db.write(RowScope(client.id)) as connection:
            await connection.execute(sa.text("SELECT 1 / 0"))
    async with db.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        assert not driver.is_in_transaction()
        assert await connection.scalar(sa.text("SELECT current_setting('imago.client', true)")) in (None, "")
