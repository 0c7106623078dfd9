"""The relay: publishes what is due in the outbox, which is what crashes and outages left, and what was parked."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.outbox.model import OutboxRow
from imago.core.outbox.rows import Published, mark_published, outbox_state, postpone_rows, take_due_rows
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.maintenance.eager_publisher import published_rows
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.publisher import Publisher
from imago.telemetry import metrics
from imago.telemetry.tracing import publish_spans

# Rows are locked while they are published, so a batch is what NATS takes in a fraction of a second.
BATCH = 200

# A row that JetStream doesn't take (its lane has no stream yet) must not keep the others from their turn.
POSTPONE = timedelta(seconds=5)


class OutboxRelay:
    """Publishes due rows; several may run side by side."""

    def __init__(self, db: Database, nats: NatsConnection, publisher: Publisher) -> None:
        self._db = db
        self._nats = nats
        self._publisher = publisher

    async def run_once(self) -> int:
        """Publish what is due until nothing is left or NATS is away; return how many rows were published."""
        total = 0
        while self._nats.connected:
            done, taken = await self._batch()
            total += done
            if taken < BATCH:
                break
        waiting = await outbox_state(self._db)
        metrics.OUTBOX_OVERDUE.set(waiting.overdue)
        metrics.OUTBOX_PARKED.set(waiting.parked)
        age = (utc_now() - waiting.oldest_due_at).total_seconds() if waiting.oldest_due_at else 0.0
        metrics.OUTBOX_AGE.set(max(age, 0.0))
        return total

    async def _batch(self) -> tuple[int, int]:
        # Most sweeps find nothing, and a write transaction on SQLite would keep others out for it.
        if (await outbox_state(self._db)).overdue == 0:
            return 0, 0
        if self._db.is_sqlite:
            # There a lease keeps others away, because a write transaction would lock the database while NATS answers.
            async with self._db.read(SYSTEM) as connection:
                rows = await take_due_rows(connection, now=utc_now(), limit=BATCH)
            published, left = await self._publish(rows)
            async with self._db.write(SYSTEM) as connection:
                await _note(connection, published, left)
        else:
            async with self._db.write(SYSTEM) as connection:
                rows = await take_due_rows(connection, now=utc_now(), limit=BATCH)
                published, left = await self._publish(rows)
                await _note(connection, published, left)
        return len(published), len(rows)

    async def _publish(self, rows: Sequence[OutboxRow]) -> tuple[list[Published], list[int]]:
        with publish_spans(rows) as traced:
            outcomes = await self._publisher.publish_many(traced)
        left = [row.id for row, outcome in zip(rows, outcomes, strict=True) if isinstance(outcome, NatsUnavailable)]
        return published_rows(rows, outcomes, by="relay"), left


async def _note(connection: AsyncConnection, published: Sequence[Published], left: Sequence[int]) -> None:
    await mark_published(connection, published)
    await postpone_rows(connection, left, POSTPONE)
