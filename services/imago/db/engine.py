"""Connections and transactions: one `Database` per process, on PostgreSQL or SQLite.

Every transaction has a `RowScope`. On PostgreSQL it sets `imago.client` or `imago.scope`, which the row-level security
policies read; on SQLite it has no effect. Writes on SQLite use BEGIN IMMEDIATE, so that concurrent writers wait for the
lock instead of failing when they upgrade to it.
"""

import asyncio
import inspect
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from imago.db.scoped_connection import ScopedConnection, ping_idle_connections
from imago.db.sqlite_pages import find_damage
from imago.runtime.startup import StartupError
from imago.settings.database import DatabaseSettings


class DatabaseUnavailable(Exception):
    """The database is unreachable, does not answer in time or has no resources left; no commit was confirmed."""


class DatabaseCorrupt(DatabaseUnavailable):
    """Stored pages are damaged; only a restored backup helps."""


@dataclass(frozen=True)
class RowScope:
    """The rows that a transaction may access: those of the client with this id, or all of them (None)."""

    client_id: int | None


SYSTEM = RowScope(None)

_DRIVERS = {"postgresql+asyncpg": "postgresql", "sqlite+aiosqlite": "sqlite"}

# The name of Imago's sessions in `pg_stat_activity`.
APPLICATION_NAME = "imago"

# How long SQLite waits for another process's write; a write takes milliseconds.
SQLITE_BUSY_TIMEOUT_MS = 10_000

# The errors of drivers that mean that the server is unavailable; they become `DatabaseUnavailable`.
_UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    sa.exc.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The server has sent a FATAL error on this connection, and has not closed it yet.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    # Out of connections, memory or disk space; disk errors; sessions that timed out.
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    # A standby that was not promoted yet, or a demoted primary.
    asyncpg.ReadOnlySQLTransactionError,
    # Rolled back because of a conflict with another transaction; both errors ask for a retry.
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)

# SQLite's codes for a lock held too long and for a disk that is full, failing or read-only.
_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)

_SQLITE_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# Pages are checked again after this: reading them all can take seconds.
_PAGE_CHECK_SECONDS = 60.0


class Database:
    """An engine with its connection pool, and read and write transactions on it."""

    def __init__(self, url: str, *, pool_size: int = 10, timeout: float = 10.0) -> None:
        try:
            self.url = sa.make_url(url)
            self.is_sqlite = _DRIVERS[self.url.drivername] == "sqlite"
        except (sa.exc.ArgumentError, KeyError, ValueError):
            # Not the URL itself, which can contain a password.
            raise StartupError(f"DATABASE_URL must begin with one of: {', '.join(_DRIVERS)}") from None
        _check_options(self.url)
        self._timeout = timeout
        self.on_connection_wait: Callable[[float], None] | None = None
        """Called with the seconds that a checkout from the pool took, including checkouts that failed."""
        self._pages_checked = -math.inf
        self.engine: AsyncEngine = self._create(pool_size)

    @classmethod
    def from_settings(cls, settings: DatabaseSettings, *, timeout: float | None = None) -> "Database":
        """Return the database of the settings without connecting; `timeout` overrides the settings' timeout."""
        return cls(
            settings.database_url,
            pool_size=settings.database_pool_size,
            timeout=timeout or settings.database_timeout,
        )

    @asynccontextmanager
    async def read(self, scope: RowScope = SYSTEM) -> AsyncIterator[AsyncConnection]:
        """Open a read transaction; raise DatabaseUnavailable."""
        async with self._transaction(scope, write=False) as connection:
            yield connection

    @asynccontextmanager
    async def write(self, scope: RowScope = SYSTEM) -> AsyncIterator[AsyncConnection]:
        """Open a write transaction, committed at the end of the block; raise DatabaseUnavailable.

        If the error occurs during the commit, the transaction may or may not be committed.
        """
        async with self._transaction(scope, write=True) as connection:
            yield connection

    @asynccontextmanager
    async def asyncpg_connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Check out a connection of asyncpg, on which each statement is its own transaction without a row scope.

        For tables without row-level security whose statements are cheaper than a transaction's extra round trips.
        PostgreSQL only. Raises DatabaseUnavailable.
        """
        async with translate_errors():
            connection = await self._connect()
            try:
                yield _asyncpg_of(connection)
            finally:
                await connection.close()

    async def check(self) -> None:
        """Run a query; raise DatabaseUnavailable if the database does not answer."""
        async with self.read() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def check_pages(self) -> None:
        """Run a query, and on SQLite check the stored pages; raise DatabaseUnavailable or DatabaseCorrupt."""
        await self.check()
        if self.is_sqlite and self.url.database and time.monotonic() >= self._pages_checked + _PAGE_CHECK_SECONDS:
            if await asyncio.to_thread(find_damage, Path(self.url.database)):
                raise DatabaseCorrupt("damaged pages")
            self._pages_checked = time.monotonic()

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    def pool_state(self) -> tuple[int, int]:
        """Return the number of connections in use, and the size of the pool."""
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
                    _asyncpg_of(connection).scope = (
                        ("imago.scope", "system") if scope.client_id is None else ("imago.client", int(scope.client_id))
                    )
                async with connection.begin():
                    yield connection
            finally:
                if not self.is_sqlite and not connection.invalidated:
                    _asyncpg_of(connection).scope = None
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
            # Errors and logs must not contain clients' data or key digests.
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
                    # A page of a list is a few rows of an index. The server's defaults assume disks that seek, and
                    # chose parallel scans, which took longer to start than the page takes.
                    "random_page_cost": "1.1",
                    "max_parallel_workers_per_gather": "0",
                    # A process that froze or lost its network inside a transaction holds its locks until the server
                    # ends the session. `db.frozen_sessions` ends those that this timeout does not cover.
                    "idle_in_transaction_session_timeout": str(int(self._timeout * 1000)),
                },
            },
            **options,
        )
        ping_idle_connections(engine.sync_engine)
        return engine


def _check_options(url: sa.URL) -> None:
    """Raise StartupError for an option of the URL that the driver does not have, such as libpq's `sslmode`."""
    if _DRIVERS[url.drivername] == "postgresql":
        for name in url.query.keys() - inspect.signature(asyncpg.connect).parameters.keys():
            hint = "; use ssl" if name == "sslmode" else ""
            raise StartupError(f"DATABASE_URL: asyncpg has no option {name!r}{hint}")


def _asyncpg_of(connection: AsyncConnection) -> Any:
    return connection.sync_connection.connection.driver_connection if connection.sync_connection else None


@asynccontextmanager
async def translate_errors() -> AsyncIterator[None]:
    """Raise DatabaseUnavailable for errors of drivers that are not those of a statement."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise DatabaseUnavailable(type(error).__name__) from error
    except sa.exc.DBAPIError as error:
        causes = list(_causes(error.orig))
        if any(_is_corruption(cause) for cause in causes):
            raise DatabaseCorrupt(type(error.orig).__name__) from error
        if error.connection_invalidated or any(_is_unavailable(cause) for cause in causes):
            raise DatabaseUnavailable(type(error.orig).__name__) from error
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_corruption(error: BaseException) -> bool:
    return isinstance(error, asyncpg.DataCorruptedError | asyncpg.IndexCorruptedError) or (
        _sqlite_code(error) in _SQLITE_CORRUPT
    )


def _is_unavailable(error: BaseException) -> bool:
    return isinstance(error, _UNAVAILABLE) or _sqlite_code(error) in _SQLITE_UNAVAILABLE


def _sqlite_code(error: BaseException) -> int | None:
    # The lowest byte of an extended result code is its primary code (https://www.sqlite.org/rescode.html).
    return getattr(error, "sqlite_errorcode", 0) & 0xFF if isinstance(error, sqlite3.Error) else None


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # Keep the driver from starting transactions: `_begin_sqlite` chooses between DEFERRED and IMMEDIATE.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        f"busy_timeout={SQLITE_BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        # A power failure can lose the last transactions but not corrupt the database; see docs/reliability.md.
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    # SQLite has these only if it was compiled with them.
    for name, function in (("sin", math.sin), ("cos", math.cos), ("radians", math.radians)):
        dbapi_connection.create_function(name, 1, function, deterministic=True)
    dbapi_connection.create_function("different_bits", 2, _different_bits, deterministic=True)


def _different_bits(one: int, other: int) -> int:
    """Return in how many of 64 bits two integers differ: PostgreSQL's `bit_count(one # other)`."""
    return ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("imago_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
