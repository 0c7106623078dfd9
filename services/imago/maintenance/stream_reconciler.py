"""The reconciler: finds stages that wait for a message which isn't there, and publishes them anew.

Streams may be wiped, deleted or restored, consumers recreated, messages used up. Whatever happened, a stage that is
due, leased by nobody and absent from the outbox must have a message in its stream; where it has none, its run goes out
again under the next epoch. Only the row's attempts make a dead letter.
"""

from datetime import timedelta

import structlog
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from imago.core.clients import queries as clients
from imago.core.jobs import stream_repair as repair
from imago.core.jobs.stages import Stage
from imago.core.jobs.stream_repair import OpenStage
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
    """Keeps the streams in step with the database."""

    def __init__(
        self, settings: Settings, db: Database, nats: NatsConnection, outbox_publisher: OutboxPublisher
    ) -> None:
        self._db = db
        self._nats = nats
        self._outbox_publisher = outbox_publisher
        self._options = StreamOptions(replicas=settings.nats_replicas, ack_wait=settings.ack_wait)
        # A message that was published a moment ago may be on its way; one that is in a worker's hands is leased.
        self._quiet = timedelta(seconds=settings.ack_wait / 2)
        self._idle_up_to: dict[tuple[str, Stage], int] = {}

    async def run_once(self) -> int:
        """Ensure the streams, then look at every open stage; return how many were published anew."""
        if not self._nats.connected:
            return 0
        try:
            try:
                await ensure_streams(
                    self._nats.js, lanes=await clients.dedicated_lanes(self._db), options=self._options
                )
            except StreamConflict as conflict:
                # One stream that a person must look at doesn't keep the others' work from being repaired.
                log.error("the streams can't be brought to what is needed", conflict=str(conflict))
            return await self._repair()
        except (NatsError, OSError) as error:
            raise NatsUnavailable(type(error).__name__) from error

    async def read_advisories(self) -> int:
        """Publish anew what consumers gave up; return how many."""
        if not self._nats.connected:
            return 0
        count = 0
        for received in await advisories.read_advisories(self._nats):
            if received.advisory is not None:
                found = await repair.find_by_sequence(self._db, received.advisory.stream, received.advisory.sequence)
                if found is not None:
                    count += await self._again(found, reason="given-up")
            await received.ack()
        return count

    async def _repair(self) -> int:
        count, after = 0, (0, "")
        self._idle_up_to.clear()
        troubled: set[str | None] = set()
        while True:
            page = await repair.find_open_stages(self._db, quiet_for=self._quiet, limit=PAGE, after=after)
            for found in page:
                if found.stream in troubled:
                    continue
                try:
                    reason = await self._what_is_wrong(found)
                except (NatsError, OSError) as error:
                    if not self._nats.connected:
                        raise
                    # A stream without a leader, say, doesn't keep the others' work from being repaired either.
                    log.warning("a stream can't be looked into", stream=found.stream, error=type(error).__name__)
                    troubled.add(found.stream)
                    continue
                if reason is not None:
                    count += await self._again(found, reason=reason)
            if len(page) < PAGE:
                return count
            after = (page[-1].image_id, page[-1].stage)

    async def _what_is_wrong(self, found: OpenStage) -> str | None:
        if not await self._is_in_stream(found):
            return "message-missing"
        return "deliveries-used-up" if await self._is_used_up(found) else None

    async def _is_in_stream(self, found: OpenStage) -> bool:
        if found.stream is None or found.sequence is None:
            return False
        try:
            message = await self._nats.js.get_msg(found.stream, found.sequence)
        except NotFoundError:
            return False
        # A stream that was made anew counts from 1 again: another message may lie at that number.
        return (message.headers or {}).get("Nats-Msg-Id") == found.message_id

    async def _is_used_up(self, found: OpenStage) -> bool:
        """Tell whether a message lies in its stream and won't be delivered any more.

        At its last delivery a message stays there, in no count; its advisory is sent once and may be missed. A consumer
        that is past a message and waits for no acknowledgement will never deliver it.
        """
        stream, sequence = found.stream or "", found.sequence or 0
        key = (stream, found.stage)
        if key not in self._idle_up_to:
            info = await self._nats.js.consumer_info(stream, found.stage)
            delivered = info.delivered.stream_seq if info.delivered else 0
            self._idle_up_to[key] = 0 if info.num_ack_pending else delivered
        if sequence > self._idle_up_to[key]:
            return False
        await self._nats.js.delete_msg(stream, sequence)
        return True

    async def _again(self, found: OpenStage, *, reason: str) -> int:
        row = await repair.republish(self._db, found)
        if row is None:
            return 0
        log.warning("a stage had lost its message", stage=found.stage, image_id=found.image_id, reason=reason)
        metrics.RECONCILED.labels(reason).inc()
        self._outbox_publisher.publish_soon([row])
        return 1
