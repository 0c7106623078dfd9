"""Publishes rows right after their commit; what it can't publish now, the relay publishes later."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from imago import failpoints
from imago.cancellation import end_tasks
from imago.core.outbox.model import OutboxRow
from imago.core.outbox.rows import Published, mark_published
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable
from imago.nats.connection import NatsUnavailable
from imago.nats.publisher import Ack, Publisher
from imago.telemetry import metrics
from imago.telemetry.tracing import publish_spans

log = structlog.get_logger(__name__)

# Rows are gathered while the batch before is under way, so a batch is as large as the load makes it.
_BATCH = 500

# More than this in memory means that NATS doesn't keep up; the outbox has the rows anyway.
_MAX_WAITING = 10_000


class EagerPublisher:
    """An `OutboxPublisher` with one background task; `start` and `close` it with the process."""

    def __init__(self, db: Database, publisher: Publisher, *, by: str) -> None:
        self._db = db
        self._publisher = publisher
        self._by = by
        self._waiting: list[OutboxRow] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def publish_soon(self, rows: Sequence[OutboxRow]) -> None:
        """Take over the rows of a committed transaction."""
        if rows and len(self._waiting) < _MAX_WAITING:
            self._waiting.extend(rows)
            self._idle.clear()
            self._wake.set()

    async def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="announcer")

    async def close(self) -> None:
        """Publish what waits, for a moment at most, and stop."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._idle.wait()
        await end_tasks(self._task)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = self._waiting[:_BATCH]
                try:
                    await publish_and_settle(self._db, self._publisher, batch, by=self._by)
                except DatabaseUnavailable as error:
                    log.info("published, but could not note it; the relay will", error=str(error))
                except Exception:
                    log.exception("the eager publisher failed over a batch; the relay takes it")
                del self._waiting[: len(batch)]
            self._idle.set()


async def publish_and_settle(db: Database, publisher: Publisher, rows: Sequence[OutboxRow], *, by: str) -> int:
    """Publish rows and note where they lie; return how many were published."""
    failpoints.reach("announcer.publishing")
    with publish_spans(rows) as traced:
        published = published_rows(rows, await publisher.publish_many(traced), by=by)
    failpoints.reach("announcer.published")
    if published:
        async with db.write(SYSTEM) as connection:
            await mark_published(connection, published)
    return len(published)


def published_rows(rows: Sequence[OutboxRow], outcomes: Sequence[Ack | NatsUnavailable], *, by: str) -> list[Published]:
    """Return the rows that JetStream has, and where; count them."""
    published = []
    for row, outcome in zip(rows, outcomes, strict=True):
        if isinstance(outcome, NatsUnavailable):
            continue
        published.append(Published(row, outcome.stream, outcome.sequence))
        metrics.PUBLISHED.labels(by, row.kind).inc()
        if outcome.duplicate:
            # JetStream has this very id; where it lies is what it told. If that message is gone again, the reconciler
            # finds out and publishes under another epoch.
            metrics.PUBLISH_DUPLICATES.inc()
    return published
