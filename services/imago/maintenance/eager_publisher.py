"""Publishes outbox rows right after their commit; the outbox relay publishes those that fail."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from imago.core.outbox.model import OutboxRow
from imago.core.outbox.rows import Published, mark_published
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable
from imago.nats.connection import NatsUnavailable
from imago.nats.publisher import Ack, Publisher
from imago.runtime import failpoints
from imago.runtime.cancellation import end_tasks
from imago.telemetry import metrics
from imago.telemetry.tracing import publish_spans

log = structlog.get_logger(__name__)

# The maximum size of a batch. Rows that arrive during a batch form the next one, so batches grow with the load.
_BATCH = 500

# With more rows than this, NATS can't keep up; further rows are left to the relay.
_MAX_PENDING = 10_000

# How long `close` waits for pending rows.
_CLOSE_SECONDS = 2.0


class EagerPublisher:
    """An `OutboxPublisher` that publishes in one background task."""

    def __init__(self, db: Database, publisher: Publisher, *, by: str) -> None:
        self._db = db
        self._publisher = publisher
        self._by = by
        self._pending: list[OutboxRow] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def publish_soon(self, rows: Sequence[OutboxRow]) -> None:
        """Queue the rows of a committed transaction for publication."""
        if rows and len(self._pending) < _MAX_PENDING:
            self._pending.extend(rows)
            self._idle.clear()
            self._wake.set()

    async def start(self) -> None:
        """Start publishing."""
        self._task = asyncio.create_task(self._run(), name="eager-publisher")

    async def close(self) -> None:
        """Publish pending rows for up to `_CLOSE_SECONDS`, and stop."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._idle.wait()
        await end_tasks(self._task)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch = self._pending[:_BATCH]
                try:
                    await publish_and_record(self._db, self._publisher, batch, by=self._by)
                except DatabaseUnavailable as error:
                    # The relay publishes the rows again and JetStream drops the duplicates.
                    log.info("outbox.publication-unrecorded", rows=len(batch), error=str(error))
                except Exception:
                    log.exception("outbox.eager-publish-failed", rows=len(batch))
                del self._pending[: len(batch)]
            self._idle.set()


async def publish_and_record(db: Database, publisher: Publisher, rows: Sequence[OutboxRow], *, by: str) -> int:
    """Publish rows and record their positions in the streams; return the number of rows published."""
    failpoints.reach("outbox.publishing")
    with publish_spans(rows) as traced:
        published = published_rows(rows, await publisher.publish_many(traced), by=by)
    failpoints.reach("outbox.published")
    if published:
        async with db.write(SYSTEM) as connection:
            await mark_published(connection, published)
    return len(published)


def published_rows(rows: Sequence[OutboxRow], results: Sequence[Ack | NatsUnavailable], *, by: str) -> list[Published]:
    """Return the rows that JetStream stored, with their positions, and count them in the metrics."""
    published = []
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, NatsUnavailable):
            continue
        published.append(Published(row, result.stream, result.sequence))
        metrics.PUBLISHED.labels(by, row.kind).inc()
        if result.duplicate:
            # The position is that of the first message with this id. If that message was lost, the stream reconciler
            # republishes the run under another epoch.
            metrics.PUBLISH_DUPLICATES.inc()
    return published
