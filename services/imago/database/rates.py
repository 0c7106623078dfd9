"""Request rates that hold across replicas: one row a subject, one atomic statement a request.

The table is UNLOGGED: after a crash of the server everyone has a full burst again, and no request waits for a disk. It
holds nothing of a client's but its number, so it is under no row-level security, and the statement needs no transaction
around it.
"""

from datetime import timedelta

from imago.database.engine import Database
from imago.domain.rates import MINUTE, Rate, Verdict, verdict

# The database's own clock decides: those of replicas differ. clock_timestamp() is read before a row's lock is waited
# for, so that a late request is measured by an earlier time and never gains from having waited.
_SPEND = """
    INSERT INTO rate_limits AS kept (subject, tat)
    VALUES ($1, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + $2::bigint)
    ON CONFLICT (subject) DO UPDATE
    SET tat = greatest(kept.tat, excluded.tat - $2) + $2
    WHERE greatest(kept.tat, excluded.tat - $2) + $2 <= excluded.tat - $2 + $3::bigint
    RETURNING tat - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
"""

_AHEAD = """
    SELECT tat - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) FROM rate_limits WHERE subject = $1
"""

_EXPIRE = """
    DELETE FROM rate_limits WHERE tat < CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) - $1::bigint
"""


class DatabaseRates:
    """Rates in PostgreSQL."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Take one request of a subject, or refuse it; raise DatabaseUnavailable."""
        async with self._db.driver() as connection:
            ahead = await connection.fetchval(_SPEND, subject, rate.interval, rate.tolerance)
            if ahead is not None:
                return verdict(ahead, rate, allowed=True)
            ahead = await connection.fetchval(_AHEAD, subject)
        # A row that was swept in between is as good as one that has just become free.
        return verdict(ahead if ahead is not None else rate.tolerance, rate, allowed=False)


async def expire_rates(db: Database, *, idle: timedelta) -> int:
    """Forget subjects that have sent nothing for so long; return how many. SQLite has none."""
    if db.is_sqlite:
        return 0
    async with db.driver() as connection:
        status = await connection.execute(_EXPIRE, int(idle.total_seconds() / 60 * MINUTE))
    return int(status.rpartition(" ")[2])
