"""Calls to AI providers in the database: a client's month, one reservation a call, and what it came to.

The month's count is raised before a call by one conditional statement, so that however many processes call at once, a
client's budget is never passed; what didn't reach the model is counted down again.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.ai_usage.model import AiUsage, BudgetExhausted, CallContext, TokenUsage, month_of, next_month
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable, RowScope
from imago.db.tables import ai_calls, ai_usage

log = structlog.get_logger(__name__)

SETTLED = "settled"
LOST = "lost"


class DatabaseLedger:
    """The ledger of calls that all processes share."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def reserve(self, context: CallContext, *, provider: str) -> int:
        """Count one call of the client's month; raise BudgetExhausted, or DatabaseUnavailable."""
        now = utc_now()
        if context.ai_calls_per_month < 1:
            raise BudgetExhausted(next_month(now))
        insert = sqlite.insert if self._db.is_sqlite else postgresql.insert
        take = (
            insert(ai_usage)
            .values(client_id=context.client_id, month=month_of(now), calls=1)
            .on_conflict_do_update(
                index_elements=[ai_usage.c.client_id, ai_usage.c.month],
                set_={"calls": ai_usage.c.calls + 1},
                where=ai_usage.c.calls < context.ai_calls_per_month,
            )
            .returning(ai_usage.c.calls)
        )
        async with self._db.write(RowScope(context.client_id)) as connection:
            if await connection.scalar(take) is None:
                raise BudgetExhausted(next_month(now))
            reservation = await connection.scalar(
                sa.insert(ai_calls)
                .values(
                    client_id=context.client_id,
                    month=month_of(now),
                    image_id=context.image_id,
                    kind=context.kind,
                    provider=provider,
                    created_at=now,
                )
                .returning(ai_calls.c.id)
            )
        return int(reservation or 0)

    async def settle(self, reservation: int, usage: TokenUsage) -> None:
        """Note what the call used; where the database is away, `expire_reservations` ends the reservation later."""
        try:
            async with self._db.write(SYSTEM) as connection:
                await _end(connection, reservation, outcome=SETTLED, usage=usage)
        except DatabaseUnavailable:
            log.warning("a call to a provider could not be written down", model=usage.model)

    async def give_back(self, reservation: int) -> None:
        """Uncount the call; where the database is away, it stays counted."""
        gone = sa.delete(ai_calls).where(ai_calls.c.id == reservation, ai_calls.c.outcome.is_(None))
        try:
            async with self._db.write(SYSTEM) as connection:
                row = (await connection.execute(gone.returning(ai_calls.c.client_id, ai_calls.c.month))).one_or_none()
                if row is not None:
                    await connection.execute(
                        sa.update(ai_usage)
                        .where(ai_usage.c.client_id == row.client_id, ai_usage.c.month == row.month)
                        .values(calls=ai_usage.c.calls - 1)
                    )
        except DatabaseUnavailable:
            log.warning("a call that was not made stays counted")


async def get_ai_usage(db: Database, client_id: int, *, at: datetime | None = None) -> AiUsage:
    """Return what a client's calls of a month came to, of the present one by default."""
    query = sa.select(ai_usage).where(ai_usage.c.client_id == client_id, ai_usage.c.month == month_of(at or utc_now()))
    async with db.read(RowScope(client_id)) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return AiUsage()
    return AiUsage(row.calls, row.input_tokens, row.output_tokens, row.cost_microusd, row.unpriced_calls)


async def expire_reservations(db: Database, *, older_than: timedelta, limit: int = 1000) -> int:
    """End reservations of processes that died during a call; return how many.

    They stay counted, because the model may have been asked and paid for; what it used is unknown.
    """
    stale = (
        sa.select(ai_calls.c.id)
        .where(ai_calls.c.outcome.is_(None), ai_calls.c.created_at < utc_now() - older_than)
        .order_by(ai_calls.c.id)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        found = list(await connection.scalars(stale))
    ended = 0
    for reservation in found:
        async with db.write(SYSTEM) as connection:
            ended += await _end(connection, reservation, outcome=LOST, usage=None)
    return ended


async def forget_calls(db: Database, *, older_than: timedelta, limit: int = 5000) -> int:
    """Delete calls that ended long ago, at most so many at once; the months' sums stay. Return how many."""
    old = (
        sa.select(ai_calls.c.id)
        .where(ai_calls.c.created_at < utc_now() - older_than, ai_calls.c.outcome.is_not(None))
        .order_by(ai_calls.c.created_at)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        found = list(await connection.scalars(old))
    if not found:
        return 0
    async with db.write(SYSTEM) as connection:
        gone = await connection.execute(sa.delete(ai_calls).where(ai_calls.c.id.in_(found)))
    return gone.rowcount


async def _end(connection: AsyncConnection, reservation: int, *, outcome: str, usage: TokenUsage | None) -> int:
    used = usage or TokenUsage("")
    ended = (
        sa.update(ai_calls)
        .where(ai_calls.c.id == reservation, ai_calls.c.outcome.is_(None))
        .values(
            outcome=outcome,
            model=used.model or None,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cost_microusd=used.cost_microusd,
            ended_at=utc_now(),
        )
        .returning(ai_calls.c.client_id, ai_calls.c.month)
    )
    row = (await connection.execute(ended)).one_or_none()
    if row is None:
        return 0
    await connection.execute(
        sa.update(ai_usage)
        .where(ai_usage.c.client_id == row.client_id, ai_usage.c.month == row.month)
        .values(
            input_tokens=ai_usage.c.input_tokens + used.input_tokens,
            output_tokens=ai_usage.c.output_tokens + used.output_tokens,
            cost_microusd=ai_usage.c.cost_microusd + (used.cost_microusd or 0),
            unpriced_calls=ai_usage.c.unpriced_calls + int(used.cost_microusd is None),
        )
    )
    return 1
