"""Request rates that hold across replicas: one row a subject, one statement a request.

The table is UNLOGGED: after a crash of the server everyone has a full burst again, and no request waits for a disk. It
holds nothing of a client's but its number, so it is under no row-level security, and the statement needs no transaction
around it.
"""

from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from typing import NamedTuple

from imago.core.batching import Batches
from imago.core.clients.gcra import MINUTE, Rate, Verdict, verdict
from imago.db.engine import Database, DatabaseUnavailable

# The database's own clock decides: those of replicas differ. clock_timestamp() is read before a row's lock is waited
# for, so that a late request is measured by an earlier time and never gains from having waited.
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


# A burst of more than this goes in several.
_LARGEST_BATCH = 100


class _Charged(NamedTuple):
    """Whether a request was taken, and how far its subject's TAT lies ahead of now, in microseconds."""

    ahead: int
    allowed: bool


class _Charge(NamedTuple):
    """One request of a subject, as the statements take it."""

    subject: str
    interval: int
    tolerance: int


class DatabaseRates:
    """Rates in PostgreSQL; a subject's requests of a moment are charged in one round trip, each by its own statement.

    Not those of different subjects: a row that somebody holds, a frozen replica say, would hold up everybody's.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._charges: Batches[_Charge, _Charged] = Batches(
            self._charge, largest=_LARGEST_BATCH, common=(DatabaseUnavailable,), key=attrgetter("subject")
        )

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Take one request of a subject, or refuse it; raise DatabaseUnavailable."""
        charged = await self._charges.ask(_Charge(subject, rate.interval, rate.tolerance))
        return verdict(charged.ahead, rate, allowed=charged.allowed)

    async def _charge(self, charges: Sequence[_Charge]) -> list[_Charged]:
        subject = charges[0].subject
        async with self._db.asyncpg_connection() as connection:
            rows = await connection.fetchmany(_SPEND, charges)
            # By interval and tolerance, of which there are two where the client's plan has just been changed.
            taken: dict[_Charge, deque[int]] = {charge: deque() for charge in charges}
            for ahead, *charge in rows:
                taken[_Charge(*charge)].append(ahead)
            stands = await connection.fetchval(_AHEAD, subject) if len(rows) < len(charges) else None
        # A row that was swept in between is as good as one that has just become free.
        return [
            _Charged(taken[charge].popleft(), allowed=True)
            if taken[charge]
            else _Charged(charge.tolerance if stands is None else stands, allowed=False)
            for charge in charges
        ]


async def expire_rates(db: Database, *, idle: timedelta) -> int:
    """Forget subjects that have sent nothing for so long; return how many. SQLite has none."""
    if db.is_sqlite:
        return 0
    async with db.asyncpg_connection() as connection:
        status = await connection.execute(_EXPIRE, int(idle.total_seconds() / 60 * MINUTE))
    return int(status.rpartition(" ")[2])
