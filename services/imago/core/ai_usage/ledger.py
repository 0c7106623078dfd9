"""The ledger of AI calls: each client's monthly totals, and one reservation per call with its tokens and cost.

One conditional statement increments the month's count before a call, so that concurrent processes never exceed a
client's budget. A call that did not reach the model is subtracted again.
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
    """The ledger in the database, which all processes share."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def reserve(self, context: CallContext, *, provider: str) -> int:
        """Count one call and return its reservation; raise BudgetExhausted or DatabaseUnavailable."""
        now = utc_now()
        if context.ai_calls_per_month < 1:
            raise BudgetExhausted(next_month(now))
        async with self._db.write(RowScope(context.client_id)) as connection:
            if await connection.scalar(self._count_call(context, now)) is None:
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

    def _count_call(self, context: CallContext, now: datetime) -> sa.Executable:
        """Return the statement that counts a call; it returns no row if the budget is exhausted."""
        insert = sqlite.insert if self._db.is_sqlite else postgresql.insert
        return (
            insert(ai_usage)
            .values(client_id=context.client_id, month=month_of(now), calls=1)
            .on_conflict_do_update(
                index_elements=[ai_usage.c.client_id, ai_usage.c.month],
                set_={"calls": ai_usage.c.calls + 1},
                where=ai_usage.c.calls < context.ai_calls_per_month,
            )
            .returning(ai_usage.c.calls)
        )

    async def settle(self, reservation: int, usage: TokenUsage) -> None:
        """Record what the call used; if the database is unavailable, `expire_reservations` ends it later."""
        try:
            async with self._db.write(SYSTEM) as connection:
                await _end(connection, reservation, outcome=SETTLED, usage=usage)
        except DatabaseUnavailable:
            log.warning("ai-call.not-recorded", model=usage.model)

    async def cancel(self, reservation: int) -> None:
        """Subtract the call again; if the database is unavailable, it stays counted."""
        cancelled = sa.delete(ai_calls).where(ai_calls.c.id == reservation, ai_calls.c.outcome.is_(None))
        try:
            async with self._db.write(SYSTEM) as connection:
                row = (
                    await connection.execute(cancelled.returning(ai_calls.c.client_id, ai_calls.c.month))
                ).one_or_none()
                if row is not None:
                    await connection.execute(
                        sa.update(ai_usage)
                        .where(ai_usage.c.client_id == row.client_id, ai_usage.c.month == row.month)
                        .values(calls=ai_usage.c.calls - 1)
                    )
        except DatabaseUnavailable:
            log.warning("ai-call.not-cancelled", message="a call that was not made stays counted")


async def get_ai_usage(db: Database, client_id: int, *, at: datetime | None = None) -> AiUsage:
    """Return the totals of a client's calls in a month, by default the current one."""
    query = sa.select(ai_usage).where(ai_usage.c.client_id == client_id, ai_usage.c.month == month_of(at or utc_now()))
    async with db.read(RowScope(client_id)) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return AiUsage()
    return AiUsage(row.calls, row.input_tokens, row.output_tokens, row.cost_microusd, row.unpriced_calls)


async def expire_reservations(db: Database, *, older_than: timedelta, limit: int = 1000) -> int:
    """End the reservations of processes that died during a call; return how many.

    They stay counted, because the provider may charge for the call; its tokens are unknown.
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


async def delete_old_calls(db: Database, *, older_than: timedelta, limit: int = 5000) -> int:
    """Delete at most `limit` calls that ended long ago and return how many; monthly totals stay."""
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
        deleted = await connection.execute(sa.delete(ai_calls).where(ai_calls.c.id.in_(found)))
    return deleted.rowcount


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
