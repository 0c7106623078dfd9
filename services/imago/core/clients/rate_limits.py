"""Rate limits that all replicas share: one row per subject, one statement per request.

The table is UNLOGGED: no request waits for a disk, and after a crash of the server every subject has a full burst
again. It stores nothing of a client but its number, so it has no row-level security, and the statement runs without a
surrounding transaction.
"""

from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from typing import NamedTuple

from imago.core.clients.gcra import MINUTE, Rate, Verdict, verdict
from imago.core.concurrency.batching import BatchExecutor
from imago.db.engine import Database, DatabaseUnavailable

# The database's clock decides, because the clocks of replicas differ. clock_timestamp() is read before the wait for the
# row's lock, so that a request that waited is measured by the earlier time and does not gain from waiting.
_SPEND = """
    INSERT INTO rate_limits AS kept (subject, tat)
    VALUES ($1, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + $2::bigint)
    ON CONFLICT (subject) DO UPDATE
    SET tat = greatest(kept.tat, excluded.tat - $2) + $2
    WHERE greatest(kept.tat, excluded.tat - $2) + $2 <= excluded.tat - $2 + $3::bigint
    RETURNING tat - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint), subject, $2::bigint, $3::bigint
"""

_AHEAD = """
    SELECT tat - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
    FROM rate_limits WHERE subject = $1
"""

_EXPIRE = """
    DELETE FROM rate_limits WHERE subject IN (
        SELECT subject FROM rate_limits
        WHERE tat < CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) - $1::bigint
        FOR UPDATE SKIP LOCKED
    )
"""


# A larger burst is charged in several batches.
_MAX_BATCH_SIZE = 100


class _Charged(NamedTuple):
    """Whether a request was allowed, and how far its subject's TAT is ahead of now, in microseconds."""

    ahead: int
    allowed: bool


class _Charge(NamedTuple):
    """One request of a subject, as parameters of the statements."""

    subject: str
    interval: int
    tolerance: int


class DatabaseRates:
    """Rates in PostgreSQL; a subject's concurrent requests are charged in one round trip, each by its own statement.

    Different subjects are never batched: a locked row, for example of a frozen replica, would block all of them.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._charges: BatchExecutor[_Charge, _Charged] = BatchExecutor(
            self._charge, max_size=_MAX_BATCH_SIZE, not_retried=(DatabaseUnavailable,), key=attrgetter("subject")
        )

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Count one request of a subject if its rate allows it; raise DatabaseUnavailable."""
        charged = await self._charges.submit(_Charge(subject, rate.interval, rate.tolerance))
        return verdict(charged.ahead, rate, allowed=charged.allowed)

    async def _charge(self, charges: Sequence[_Charge]) -> list[_Charged]:
        subject = charges[0].subject
        async with self._db.asyncpg_connection() as connection:
            rows = await connection.fetchmany(_SPEND, charges)
            # By interval and tolerance too: just after a client's plan changed, a batch may have both.
            allowed: dict[_Charge, deque[int]] = {charge: deque() for charge in charges}
            for ahead, *charge in rows:
                allowed[_Charge(*charge)].append(ahead)
            current = await connection.fetchval(_AHEAD, subject) if len(rows) < len(charges) else None
        # A row that expired between the two statements counts as one whose burst is just used up.
        return [
            _Charged(allowed[charge].popleft(), allowed=True)
            if allowed[charge]
            else _Charged(charge.tolerance if current is None else current, allowed=False)
            for charge in charges
        ]


async def expire_rates(db: Database, *, idle: timedelta) -> int:
    """Delete subjects without requests for this long; return how many. SQLite has none."""
    if db.is_sqlite:
        return 0
    async with db.asyncpg_connection() as connection:
        status = await connection.execute(_EXPIRE, int(idle.total_seconds() / 60 * MINUTE))
    return int(status.rpartition(" ")[2])
