"""What PostgreSQL's connections do beyond SQLAlchemy's: a transaction begins and gets its scope in one round trip, and
a pooled connection is only asked whether it lives when it has been idle.

SQLAlchemy's own ways take a round trip for BEGIN, one for the scope, and three for each ping (it wraps them in a
transaction); together they cost more than most of our statements (docs/performance.md).
"""

import time
from typing import Any

import asyncpg
import sqlalchemy as sa

# A connection that was used this lately is taken as alive. If the server went away meanwhile, its socket mostly says
# so, and otherwise one statement fails as any would that the server's end overtakes.
_TRUSTED_SECONDS = 5.0

_IDLE_SINCE = "imago_idle_since"


class ScopedConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types.
    """A connection whose transactions begin with `scope`: a setting and its value, both ours, or None."""

    __slots__ = ("scope",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scope: tuple[str, int | str] | None = None

    def transaction(self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False) -> Any:
        """Return a transaction, with its scope where it is an ordinary one; SQLAlchemy's all begin by this."""
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
            # Without parameters both statements go in one message; the values are a number of ours or `system`.
            begin += f"; SELECT set_config('{name}', '{value}', true)"
        try:
            await self._connection.execute(begin)
        except Exception:
            try:
                await self._connection.execute("ROLLBACK")
            except Exception:
                # Nobody knows what state it is in, so nobody gets it again.
                self._connection.terminate()
            raise
        except BaseException:
            # A task that was cancelled in between doesn't know whether the server began. The next transaction must not
            # begin inside this one, where this one's scope would hold beside its own.
            self._connection.terminate()
            raise

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")


def watch_pool(engine: sa.Engine) -> None:
    """Have the pool replace dead connections: closed ones, and those that are idle and don't answer."""
    sa.event.listen(engine, "checkin", _note_idle)
    sa.event.listen(engine, "checkout", _check_alive)


def _note_idle(_connection: Any, record: Any) -> None:
    record.info[_IDLE_SINCE] = time.monotonic()


def _check_alive(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
    driver = record.driver_connection
    if driver.is_closed():
        raise sa.exc.DisconnectionError("the server closed the connection")
    if time.monotonic() - record.info.get(_IDLE_SINCE, time.monotonic()) > _TRUSTED_SECONDS:
        try:
            dbapi_connection.run_async(lambda connection: connection.execute("SELECT 1"))
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            raise sa.exc.DisconnectionError("the connection is dead") from error
