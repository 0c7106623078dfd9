"""Work that waits for its client's next month of AI calls, and what wakes it before: a raised limit, another policy."""

from dataclasses import dataclass

import sqlalchemy as sa

from imago.core.ai_usage.model import BUDGET_CODE, BudgetPolicy, month_of
from imago.core.clients.queries import client_from
from imago.core.jobs.stages import StageStatus
from imago.core.outbox.model import OutboxKind
from imago.core.outbox.rows import lock_rows
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import ai_usage, clients, image_stages, outbox

_HELD = sa.and_(image_stages.c.status == StageStatus.RETRYING, image_stages.c.error_code == BUDGET_CODE)


@dataclass(frozen=True)
class Held:
    """A client with work that waits, how much may go on now, and whether that is all of it."""

    client_id: int
    room: int
    unbounded: bool


async def find_held(db: Database, *, policy: BudgetPolicy) -> list[Held]:
    """Return the clients whose held work may go on: calls are left, or their policy holds nothing any more.

    `policy` is the server's, for the clients that have none of their own.
    """
    holding = sa.select(image_stages.c.client_id).where(_HELD).distinct()
    query = (
        sa.select(clients, sa.func.coalesce(ai_usage.c.calls, 0).label("calls"))
        .outerjoin(ai_usage, sa.and_(ai_usage.c.client_id == clients.c.id, ai_usage.c.month == month_of(utc_now())))
        .where(clients.c.id.in_(holding))
        .order_by(clients.c.id)
    )
    found = []
    async with db.read(SYSTEM) as connection:
        for row in await connection.execute(query):
            client = client_from(row)
            unbounded = (client.pipeline.ai_budget_policy or policy) is not BudgetPolicy.HOLD
            room = client.limits.ai_calls_per_month - row.calls
            if unbounded or room > 0:
                found.append(Held(client.id, room, unbounded))
    return found


async def wake(db: Database, client_id: int, *, limit: int) -> int:
    """Make some of a client's held work due now, what has waited longest first; return how many stages."""
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
        .where(image_stages.c.client_id == client_id, _HELD, outbox.c.due_at > now, outbox.c.kind == OutboxKind.WORK)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    async with db.write(SYSTEM) as connection:
        rows = list(await connection.execute(query))
        if not rows:
            return 0
        ids = [row.id for row in rows]
        # The order of locks that every transaction keeps: the outbox, then the stages.
        await lock_rows(connection, outbox.c.id.in_(ids))
        await connection.execute(sa.update(outbox).where(outbox.c.id.in_(ids)).values(due_at=now))
        for row in sorted(rows, key=lambda row: (row.image_id, row.stage)):
            await connection.execute(
                sa.update(image_stages)
                .where(
                    image_stages.c.image_id == row.image_id,
                    image_stages.c.stage == row.stage,
                    # Not one that was woken by another process, tried and held again since.
                    image_stages.c.epoch == row.epoch,
                    _HELD,
                )
                .values(due_at=now)
            )
    return len(rows)
