"""Request rates that hold across replicas: one row a subject, one atomic statement a request.

The table is UNLOGGED: after a crash of the server everyone has a full burst again, and no request waits for a disk. It
holds nothing of a client's but its number, so it is under no row-level security, and the statement needs no transaction
around it.
"""

from datetime import timedelta

import sqlalchemy as sa

from imago.database.engine import Database
from imago.domain.rates import MINUTE, Rate, Verdict, verdict

# The database's own clock decides: those of replicas differ. clock_timestamp() is read before a row's lock is waited
# for, so that a late request is measured by an earlier time and never gains from having waited.
_SPEND = sa.text(
    """
    INSERT INTO rate_limits AS kept (subject, tat)
    VALUES (:subject, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + :interval)
    ON CONFLICT (subject) DO UPDATE
    SET tat = greatest(kept.tat, excluded.tat - :interval) + :interval
    WHERE greatest(kept.tat, excluded.tat - :interval) + :interval <= excluded.tat - :interval + :tolerance
    RETURNING tat - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
    """
).bindparams(*(sa.bindparam(name, type_=sa.BigInteger) for name in ("interval", "tolerance")))

_AHEAD = sa.text(
    "SELECT tat - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) FROM rate_limits"
    " WHERE subject = :subject"
)

_EXPIRE = sa.text(
    "DELETE FROM rate_limits WHERE tat < CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) - :age"
).bindparams(sa.bindparam("age", type_=sa.BigInteger))


class DatabaseRates:
    """Rates in PostgreSQL."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Take one request of a subject, or refuse it; raise DatabaseUnavailable."""
        values = {"subject": subject, "interval": rate.interval, "tolerance": rate.tolerance}
        async with self._db.statement() as connection:
            ahead = await connection.scalar(_SPEND, values)
            if ahead is not None:
                return verdict(ahead, rate, allowed=True)
            ahead = await connection.scalar(_AHEAD, {"subject": subject})
        # A row that was swept in between is as good as one that has just become free.
        return verdict(ahead if ahead is not None else rate.tolerance, rate, allowed=False)


async def expire_rates(db: Database, *, idle: timedelta) -> int:
    """Forget subjects that have sent nothing for so long; return how many. SQLite has none."""
    if db.is_sqlite:
        return 0
    async with db.statement() as connection:
        gone = await connection.execute(_EXPIRE, {"age": int(idle.total_seconds() / 60 * MINUTE)})
    return gone.rowcount
