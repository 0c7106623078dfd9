"""Creates the streams, and requeues stages whose message was lost.

Streams can be purged, deleted or restored, consumers recreated, and deliveries used up. In every case, a stage that is
due, not leased and not in the outbox must have a message in its stream. If it has none, its run is republished under
the next epoch. Only the attempts in the database lead to a dead letter.
"""

from datetime import timedelta

import structlog
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from imago.core.clients.queries import dedicated_lanes
from imago.core.jobs.stages import Stage
from imago.core.jobs.stream_repair import OpenStage, find_by_sequence, find_open_stages, republish
from imago.core.outbox.model import OutboxPublisher
from imago.db.engine import Database
from imago.nats import advisories
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.streams import StreamConflict, StreamOptions, ensure_streams
from imago.settings import Settings
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

PAGE = 200


class StreamReconciler:
    """Makes the streams match the database."""

    def __init__(
        self, settings: Settings, db: Database, nats: NatsConnection, outbox_publisher: OutboxPublisher
    ) -> None:
        self._db = db
        self._nats = nats
        self._outbox_publisher = outbox_publisher
        self._options = StreamOptions.of(settings)
        # A message that was just published may not be delivered yet; after its delivery, its stage is leased.
        self._quiet = timedelta(seconds=settings.ack_wait / 2)

    async def run_once(self) -> int:
        """Create or update the streams, then requeue stages without a message; return the number of stages."""
        if not self._nats.connected:
            return 0
        try:
            await self._ensure_streams()
            return await self.requeue_lost_stages()
        except (NatsError, OSError) as error:
            raise NatsUnavailable(type(error).__name__) from error

    async def read_advisories(self) -> int:
        """Requeue stages whose message a consumer gave up; return the number of stages."""
        if not self._nats.connected:
            return 0
        requeued = 0
        for message in await advisories.read_advisories(self._nats):
            if message.advisory is not None:
                stage = await find_by_sequence(self._db, message.advisory.stream, message.advisory.sequence)
                if stage is not None:
                    requeued += await self._requeue(stage, reason="given-up")
            await message.ack()
        return requeued

    async def requeue_lost_stages(self) -> int:
        """Requeue the open stages without a message; return their number. Raises the errors of the NATS client."""
        requeued, after = 0, (0, "")
        inspection = _StreamInspection(self._nats)
        while True:
            page = await find_open_stages(self._db, quiet_for=self._quiet, limit=PAGE, after=after)
            for stage in page:
                reason = await inspection.loss_of(stage)
                if reason is not None:
                    requeued += await self._requeue(stage, reason=reason)
            if len(page) < PAGE:
                return requeued
            after = (page[-1].image_id, page[-1].stage)

    async def _ensure_streams(self) -> None:
        lanes = await dedicated_lanes(self._db)
        try:
            await ensure_streams(self._nats.js, lanes=lanes, options=self._options)
        except StreamConflict as conflict:
            # A conflict in one stream must not prevent the repair of the others.
            log.error("stream.config-conflict", conflict=str(conflict))

    async def _requeue(self, stage: OpenStage, *, reason: str) -> int:
        row = await republish(self._db, stage)
        if row is None:
            return 0
        log.warning("stream.message-lost-requeued", stage=stage.stage, image_id=stage.image_id, reason=reason)
        metrics.RECONCILED.labels(reason).inc()
        self._outbox_publisher.publish_soon([row])
        return 1


class _StreamInspection:
    """Finds lost messages; remembers the state of consumers, and streams that can't be inspected, for one pass."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats
        self._delivered_up_to: dict[tuple[str, Stage], int] = {}
        self._failed: set[str | None] = set()

    async def loss_of(self, stage: OpenStage) -> str | None:
        """Return why a stage's message is lost, or None if it is in its stream or the stream can't be inspected."""
        if stage.stream in self._failed:
            return None
        try:
            if not await self._is_in_stream(stage):
                return "message-missing"
            return "deliveries-used-up" if await self._is_used_up(stage) else None
        except (NatsError, OSError) as error:
            if not self._nats.connected:
                raise
            # A failure of one stream (such as a missing leader) must not prevent the repair of the others.
            log.warning("stream.inspection-failed", stream=stage.stream, error=type(error).__name__)
            self._failed.add(stage.stream)
            return None

    async def _is_in_stream(self, stage: OpenStage) -> bool:
        if stage.stream is None or stage.sequence is None:
            return False
        try:
            message = await self._nats.js.get_msg(stage.stream, stage.sequence)
        except NotFoundError:
            return False
        # In a recreated stream, sequences start at 1 again, so another message can have this sequence.
        return (message.headers or {}).get("Nats-Msg-Id") == stage.message_id

    async def _is_used_up(self, stage: OpenStage) -> bool:
        """Delete a message that is in its stream but will not be delivered again; return whether it was deleted.

        After its last delivery, a message stays in the stream and in no count of the consumer, and its only advisory
        can be missed. A consumer that has passed a message, and waits for no acknowledgement, never delivers it again.
        """
        stream, sequence = stage.stream or "", stage.sequence or 0
        key = (stream, stage.stage)
        if key not in self._delivered_up_to:
            info = await self._nats.js.consumer_info(stream, stage.stage)
            delivered = info.delivered.stream_seq if info.delivered else 0
            self._delivered_up_to[key] = 0 if info.num_ack_pending else delivered
        if sequence > self._delivered_up_to[key]:
            return False
        await self._nats.js.delete_msg(stream, sequence)
        return True
