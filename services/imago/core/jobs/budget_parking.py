"""Stages parked until their client has AI calls left again: next month, or after a change of its limit or policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.ai_usage.model import BUDGET_CODE, BudgetPolicy, month_of
from imago.core.clients.queries import client_from
from imago.core.jobs.stages import StageStatus
from imago.core.outbox.model import OutboxKind
from imago.core.outbox.rows import lock_rows
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.prepared import Row
from imago.db.tables import ai_usage, clients, image_stages, outbox

_IS_PARKED = sa.and_(image_stages.c.status == StageStatus.RETRYING, image_stages.c.error_code == BUDGET_CODE)


@dataclass(frozen=True)
class ParkedClient:
    """A client with parked stages and room for some: `room` calls are left, or none are needed (`unbounded`)."""

    client_id: int
    room: int
    unbounded: bool


async def find_parked_clients(db: Database, *, policy: BudgetPolicy) -> list[ParkedClient]:
    """Return the clients whose parked stages may run: AI calls are left, or their policy no longer parks any.

    `policy` applies to the clients that have none.
    """
    parked = sa.select(image_stages.c.client_id).where(_IS_PARKED).distinct()
    query = (
        sa.select(clients, sa.func.coalesce(ai_usage.c.calls, 0).label("calls"))
        .outerjoin(ai_usage, sa.and_(ai_usage.c.client_id == clients.c.id, ai_usage.c.month == month_of(utc_now())))
        .where(clients.c.id.in_(parked))
        .order_by(clients.c.id)
    )
    found = []
    async with db.read(SYSTEM) as connection:
        for row in await connection.execute(query):
            client = client_from(row)
            unbounded = (client.pipeline.ai_budget_policy or policy) is not BudgetPolicy.HOLD
            room = client.limits.ai_calls_per_month - row.calls
            if unbounded or room > 0:
                found.append(ParkedClient(client.id, room, unbounded))
    return found


async def wake_stages(db: Database, client_id: int, *, limit: int) -> int:
    """Make at most `limit` parked stages of a client due now, the oldest first; return how many."""
    now = utc_now()
    query = (
        sa.select(outbox.c.id, image_stages.c.image_id, image_stages.c.stage, image_stages.c.epoch)
        .join(
            image_stages,
            sa.and_(
                outbox.c.image_id == image_stages.c.image_id,
                outbox.c.stage == image_stages.c.stage,
                outbox.c.run == image_stages.c.run,
                outbox.c.epoch == image_stages.c.epoch,
            ),
        )
        .where(
            image_stages.c.client_id == client_id, _IS_PARKED, outbox.c.due_at > now, outbox.c.kind == OutboxKind.WORK
        )
        .order_by(outbox.c.id)
        .limit(limit)
    )
    async with db.write(SYSTEM) as connection:
        rows = list(await connection.execute(query))
        if rows:
            await _make_due(connection, rows, now=now)
    return len(rows)


async def _make_due(connection: AsyncConnection, rows: Sequence[Row], *, now: datetime) -> None:
    # In the order of locks that every transaction keeps: the outbox, then the stages.
    ids = [row.id for row in rows]
    await lock_rows(connection, outbox.c.id.in_(ids))
    await connection.execute(sa.update(outbox).where(outbox.c.id.in_(ids)).values(due_at=now))
    for row in sorted(rows, key=lambda row: (row.image_id, row.stage)):
        await connection.execute(
            sa.update(image_stages)
            .where(
                image_stages.c.image_id == row.image_id,
                image_stages.c.stage == row.stage,
                # Not a stage that another process woke, and that was tried and parked again since.
                image_stages.c.epoch == row.epoch,
                _IS_PARKED,
            )
            .values(due_at=now)
        )
