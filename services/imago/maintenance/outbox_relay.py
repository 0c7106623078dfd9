"""Publishes due rows of the outbox: those that crashes and outages left, and parked rows whose time has come."""

from collections.abc import Sequence
from datetime import timedelta

import structlog
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

log = structlog.get_logger(__name__)

# Rows are locked while they are published, so a batch is small enough for NATS to take in a fraction of a second.
BATCH = 200

# A row that can't be published (because its lane has no stream yet, for example) must not block the others.
RETRY_DELAY = timedelta(seconds=5)


class OutboxRelay:
    """Publishes due rows; on PostgreSQL, several relays can run concurrently."""

    def __init__(self, db: Database, nats: NatsConnection, publisher: Publisher) -> None:
        self._db = db
        self._nats = nats
        self._publisher = publisher

    async def run_once(self) -> int:
        """Publish all due rows while NATS is available; return the number of rows published."""
        total = 0
        while self._nats.connected:
            published, taken = await self._publish_batch()
            total += published
            if taken < BATCH:
                break
        await self._update_metrics()
        return total

    async def _update_metrics(self) -> None:
        state = await outbox_state(self._db)
        metrics.OUTBOX_OVERDUE.set(state.overdue)
        metrics.OUTBOX_PARKED.set(state.parked)
        age = (utc_now() - state.oldest_due_at).total_seconds() if state.oldest_due_at else 0.0
        metrics.OUTBOX_AGE.set(max(age, 0.0))

    async def _publish_batch(self) -> tuple[int, int]:
        # Most runs find no row, and a write transaction on SQLite would block other writers for nothing.
        if (await outbox_state(self._db)).overdue == 0:
            return 0, 0
        if self._db.is_sqlite:
            # A lease excludes other relays, because a write transaction would lock the database until NATS answers.
            async with self._db.read(SYSTEM) as connection:
                rows = await take_due_rows(connection, now=utc_now(), limit=BATCH)
            published, unpublished = await self._publish(rows)
            async with self._db.write(SYSTEM) as connection:
                await _record(connection, published, unpublished)
        else:
            async with self._db.write(SYSTEM) as connection:
                rows = await take_due_rows(connection, now=utc_now(), limit=BATCH)
                published, unpublished = await self._publish(rows)
                await _record(connection, published, unpublished)
        return len(published), len(rows)

    async def _publish(self, rows: Sequence[OutboxRow]) -> tuple[list[Published], list[int]]:
        with publish_spans(rows) as traced:
            results = await self._publisher.publish_many(traced)
        failures = {
            row.id: result for row, result in zip(rows, results, strict=True) if isinstance(result, NatsUnavailable)
        }
        if failures:
            errors = sorted({str(error) for error in failures.values()})
            log.warning("outbox.publish-failed", rows=len(failures), errors=errors)
        return published_rows(rows, results, by="relay"), list(failures)


async def _record(connection: AsyncConnection, published: Sequence[Published], unpublished: Sequence[int]) -> None:
    await mark_published(connection, published)
    await postpone_rows(connection, unpublished, RETRY_DELAY)
