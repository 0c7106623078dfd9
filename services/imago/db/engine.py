"""Connections and transactions: one `Database` per process, on PostgreSQL or SQLite.

Every transaction says on whose behalf it runs. On PostgreSQL that sets `imago.client` or `imago.scope`, which the
row-level security policies read; on SQLite it has no effect. Writes on SQLite begin IMMEDIATE, so that two of them
queue for the lock instead of failing when the second one upgrades.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from imago.db.scoped_connection import ScopedConnection, watch_pool
from imago.settings.database import DatabaseSettings
from imago.startup import StartupError


class DatabaseUnavailable(Exception):
    """The database can't be reached or doesn't answer in time; nothing was committed that we know of."""


@dataclass(frozen=True)
class RowScope:
    """On whose behalf a transaction runs: one client's by its id, or the system's (None)."""

    client_id: int | None


SYSTEM = RowScope(None)

_DRIVERS = {"postgresql+asyncpg": "postgresql", "sqlite+aiosqlite": "sqlite"}

# How PostgreSQL's lists of sessions name ours.
APPLICATION_NAME = "imago"

# SQLite waits this long for another process's write to end; writes take milliseconds.
SQLITE_BUSY_TIMEOUT_MS = 10_000

# What a driver raises when the server is away; each of them is one `DatabaseUnavailable`.
_AWAY: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    sa.exc.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The server has said its last words on this connection (FATAL), and its end has not come through yet.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    # No connection, memory or disk left; its disk fails; it ended a session that was silent for too long.
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    # A standby that nobody promoted yet, or a primary that was demoted.
    asyncpg.ReadOnlySQLTransactionError,
    # Rolled back by the server for somebody else's sake; trying again is what it asks for.
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)

# What SQLite says where another process writes for too long, or its disk is full, fails or can't be written to.
_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class Database:
    """The engine and its two kinds of transaction."""

    def __init__(self, url: str, *, pool_size: int = 10, timeout: float = 10.0) -> None:
        try:
            self.url = sa.make_url(url)
            self.is_sqlite = _DRIVERS[self.url.drivername] == "sqlite"
        except (sa.exc.ArgumentError, KeyError):
            # The URL itself may hold a password.
            raise StartupError(f"DATABASE_URL must begin with one of: {', '.join(_DRIVERS)}") from None
        self._timeout = timeout
        self.on_connection_wait: Callable[[float], None] | None = None
        """Told how long the pool took to give a connection, in seconds; also where it gave none in time."""
        self.engine: AsyncEngine = self._create(pool_size)

    @classmethod
    def from_settings(cls, settings: DatabaseSettings, *, timeout: float | None = None) -> "Database":
        """Build the database that the settings name, with another deadline if one is given; nothing connects yet."""
        return cls(
            settings.database_url,
            pool_size=settings.database_pool_size,
            timeout=timeout or settings.database_timeout,
        )

    @asynccontextmanager
    async def read(self, scope: RowScope = SYSTEM) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that only reads; raise DatabaseUnavailable where the server is away."""
        async with self._transaction(scope, write=False) as connection:
            yield connection

    @asynccontextmanager
    async def write(self, scope: RowScope = SYSTEM) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that may write and commits at the end of the block.

        Raises DatabaseUnavailable where the server is away; when that happens at the commit, whether it was done is
        unknown, as with any database.
        """
        async with self._transaction(scope, write=True) as connection:
            yield connection

    @asynccontextmanager
    async def asyncpg_connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection of PostgreSQL's driver, on which each statement is a transaction on nobody's behalf.

        For tables without row-level security, where a transaction's further round trips would cost more than the
        statement. Raises DatabaseUnavailable.
        """
        async with translate_errors():
            connection = await self._connect()
            try:
                yield _driver_of(connection)
            finally:
                await connection.close()

    async def check(self) -> None:
        """Raise DatabaseUnavailable unless the database answers a query."""
        async with self.read() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    def pool_state(self) -> tuple[int, int]:
        """Return the number of connections in use, and how many the pool may open."""
        pool = self.engine.pool
        if isinstance(pool, sa.pool.QueuePool):
            return pool.checkedout(), pool.size()
        return 0, 0

    @asynccontextmanager
    async def _transaction(self, scope: RowScope, *, write: bool) -> AsyncIterator[AsyncConnection]:
        async with translate_errors():
            connection = await self._connect()
            try:
                if self.is_sqlite:
                    await connection.execution_options(imago_write=write)
                else:
                    _driver_of(connection).scope = (
                        ("imago.scope", "system") if scope.client_id is None else ("imago.client", int(scope.client_id))
                    )
                async with connection.begin():
                    yield connection
            finally:
                if not self.is_sqlite and not connection.invalidated:
                    _driver_of(connection).scope = None
                await connection.close()

    async def _connect(self) -> AsyncConnection:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                return await self.engine.connect()
        finally:
            if self.on_connection_wait is not None:
                self.on_connection_wait(time.monotonic() - began)

    def _create(self, pool_size: int) -> AsyncEngine:
        options: dict[str, Any] = {
            "json_serializer": lambda value: orjson.dumps(value).decode(),
            "json_deserializer": orjson.loads,
            # Statements must not show a tenant's data, or a digest, in an error or a log.
            "hide_parameters": True,
        }
        if self.is_sqlite:
            if self.url.database:
                try:
                    Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise StartupError(f"DATABASE_URL: cannot create its directory: {error.strerror}") from error
            engine = create_async_engine(self.url, **options)
            sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
            return engine
        engine = create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=self._timeout,
            connect_args={
                "connection_class": ScopedConnection,
                "timeout": self._timeout,
                "command_timeout": self._timeout,
                "server_settings": {
                    "application_name": APPLICATION_NAME,
                    "timezone": "UTC",
                    "jit": "off",
                    # A page of a list is a few rows by an index. The server's defaults are for disks that seek, and
                    # for reports: starting two processes to look through everything took longer than the page.
                    "random_page_cost": "1.1",
                    "max_parallel_workers_per_gather": "0",
                    # A process that is frozen (or cut off) inside a transaction holds its locks; the server ends it,
                    # and `database.sessions` those that it doesn't see.
                    "idle_in_transaction_session_timeout": str(int(self._timeout * 1000)),
                },
            },
            **options,
        )
        watch_pool(engine.sync_engine)
        return engine


def _driver_of(connection: AsyncConnection) -> Any:
    return connection.sync_connection.connection.driver_connection if connection.sync_connection else None


@asynccontextmanager
async def translate_errors() -> AsyncIterator[None]:
    """Turn what drivers raise while the server is away into DatabaseUnavailable."""
    try:
        yield
    except _AWAY as error:
        raise DatabaseUnavailable(type(error).__name__) from error
    except sa.exc.DBAPIError as error:
        if _is_away(error):
            raise DatabaseUnavailable(type(error.orig).__name__) from error
        raise


def _is_away(error: sa.exc.DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    original: BaseException | None = error.orig
    while original is not None:
        if isinstance(original, _AWAY):
            return True
        # The lowest byte is the primary code, the others tell more of it (https://www.sqlite.org/rescode.html).
        if isinstance(original, sqlite3.Error) and (getattr(original, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_AWAY:
            return True
        original = original.__cause__
    return False


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # The driver must not begin transactions of its own: `_begin_sqlite` chooses between DEFERRED and IMMEDIATE.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        f"busy_timeout={SQLITE_BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        # A power failure may lose the last transactions, never the database; see docs/reliability.md.
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("imago_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
