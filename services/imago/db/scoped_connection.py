"""PostgreSQL connections that begin a transaction and set its row scope in one round trip, and are pinged only if idle.

SQLAlchemy itself takes one round trip for BEGIN, one for the scope, and three for each ping, which it wraps in a
transaction. Together they take longer than most statements of Imago (docs/performance.md).
"""

import time
from typing import Any

import asyncpg
import sqlalchemy as sa

# A connection that was used within this time is not pinged. If the server failed in between, the socket is usually
# closed; otherwise one statement fails, as it would if the server failed during it.
_PING_AFTER_SECONDS = 5.0

_IDLE_SINCE = "imago_idle_since"


class ScopedConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types.
    """A connection whose transactions set `scope`: the name and value of a setting, or None for no setting.

    Neither may come from a user, because both are part of the statement's text.
    """

    __slots__ = ("scope",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scope: tuple[str, int | str] | None = None

    def transaction(self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False) -> Any:
        """Return a transaction that sets the scope, unless it has other options. SQLAlchemy calls this."""
        if isolation not in (None, "read_committed") or readonly or deferrable:
            return super().transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)
        return _ScopedTransaction(self)


class _ScopedTransaction:
    def __init__(self, connection: ScopedConnection) -> None:
        self._connection = connection

    async def start(self) -> None:
        begin = "BEGIN"
        if self._connection.scope is not None:
            name, value = self._connection.scope
            # Without parameters, both statements are sent in one message. The value is an integer or `system`.
            begin += f"; SELECT set_config('{name}', '{value}', true)"
        try:
            await self._connection.execute(begin)
        except Exception:
            try:
                await self._connection.execute("ROLLBACK")
            except Exception:
                # Its state is unknown, so it must not return to the pool.
                self._connection.terminate()
            raise
        except BaseException:
            # After a cancellation, the server may or may not have begun the transaction. The next one must not run
            # inside it, where the scopes of both would apply.
            self._connection.terminate()
            raise

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")


def ping_idle_connections(engine: sa.Engine) -> None:
    """Make the pool replace connections that are closed, or that were idle and do not answer."""
    sa.event.listen(engine, "checkin", _record_idle_since)
    sa.event.listen(engine, "checkout", _ping_if_idle)


def _record_idle_since(_connection: Any, record: Any) -> None:
    record.info[_IDLE_SINCE] = time.monotonic()


def _ping_if_idle(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
    driver = record.driver_connection
    if driver.is_closed():
        raise sa.exc.DisconnectionError("the server closed the connection")
    if time.monotonic() - record.info.get(_IDLE_SINCE, time.monotonic()) > _PING_AFTER_SECONDS:
        try:
            dbapi_connection.run_async(lambda connection: connection.execute("SELECT 1"))
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            raise sa.exc.DisconnectionError("the connection does not answer") from error
