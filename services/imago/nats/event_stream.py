"""Reads the stream of events from a position onwards, across reconnects and restarts of NATS.

Each reader has an ephemeral consumer, which the server deletes after a period without reads. The reader keeps its own
position and recreates the consumer from there, so it reads every event at least once while the stream retains it.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from imago.core.outbox.subjects import EVENTS_STREAM, EVENTS_SUBJECTS
from imago.nats.connection import NatsConnection, NatsUnavailable

# The server deletes a consumer after this many seconds without a read, so a crashed process leaves none behind.
_INACTIVE_THRESHOLD = 60.0

# Events per pull request; the inbox never holds more.
_BATCH = 500

# How long after its expiry the server may take to report the end of a pull request.
_EXPIRY_GRACE_SECONDS = 5.0

# How often to check for a reconnect while waiting for an event.
_WAIT_SECONDS = 1.0

# Statuses that end a pull request normally: no messages, and request expired.
_NO_MORE = ("404", "408")


@dataclass(frozen=True)
class StreamedEvent:
    """An event of the stream; `client` is the client token of its subject, `data` its JSON."""

    sequence: int
    client: str
    name: str
    data: bytes


@dataclass(frozen=True)
class EventStreamState:
    """When the stream was created (microseconds since 1970), and its first and last sequence."""

    created: int
    first: int
    last: int


async def event_stream_state(nats: NatsConnection) -> EventStreamState:
    """Return the current state of the stream of events; raise NatsUnavailable."""
    try:
        info = await nats.js.stream_info(EVENTS_STREAM)
    except (NatsError, OSError) as error:
        raise NatsUnavailable(type(error).__name__) from error
    created = int(info.created.timestamp() * 1e6) if info.created else 0
    return EventStreamState(created, info.state.first_seq, info.state.last_seq)


class EventReader:
    """Reads events after a sequence, of all clients or of `subjects`. Not safe for concurrent use."""

    def __init__(self, nats: NatsConnection, *, after: int, subjects: str = EVENTS_SUBJECTS) -> None:
        self._nats = nats
        self._subjects = subjects
        self.position = after
        """The sequence of the last event read."""
        self._consumer: str | None = None
        self._inbox: Subscription | None = None
        self._requested = 0

    async def read(self, *, timeout: float) -> StreamedEvent | None:
        """Return the next event, or None after `timeout` seconds without one; raise NatsUnavailable."""
        try:
            inbox = self._inbox or await self._bind()
            if not self._requested:
                await self._request(inbox, timeout)
            message = await self._next(inbox, timeout)
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise NatsUnavailable(type(error).__name__) from error
        status = (message.headers or {}).get("Status")
        if status is None:
            self._requested -= 1
            event = parse(message)
            self.position = event.sequence
            return event
        self._requested = 0
        if status not in _NO_MORE:
            # The consumer no longer exists: it was deleted, or the server was restarted.
            await self.close()
            raise NatsUnavailable(f"status {status}")
        return None

    async def pending(self) -> int:
        """Return the number of events not read yet; raise NatsUnavailable."""
        try:
            if self._inbox is None:
                await self._bind()
            info = await self._nats.js.consumer_info(EVENTS_STREAM, self._consumer or "")
        except (NatsError, OSError) as error:
            await self.close()
            raise NatsUnavailable(type(error).__name__) from error
        return info.num_pending or 0

    async def close(self) -> None:
        """Delete the consumer."""
        inbox, consumer = self._inbox, self._consumer
        self._inbox = self._consumer = None
        self._requested = 0
        with contextlib.suppress(NatsError, OSError, NatsUnavailable, TimeoutError):
            if inbox is not None:
                await inbox.unsubscribe()
            if consumer is not None and self._nats.connected:
                await self._nats.js.delete_consumer(EVENTS_STREAM, consumer)

    async def _bind(self) -> Subscription:
        info = await self._nats.js.add_consumer(
            EVENTS_STREAM,
            ConsumerConfig(
                filter_subject=self._subjects,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self.position + 1,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=_INACTIVE_THRESHOLD,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self._consumer = info.name
        self._inbox = await self._nats.client.subscribe(self._nats.client.new_inbox())
        return self._inbox

    async def _next(self, inbox: Subscription, timeout: float) -> Msg:
        """Return the server's next message; raise the library's TimeoutError if the pull request was lost.

        The server reports the expiry of a pull request, so silence after the expiry means that the request was lost.
        So does a reconnect, because a request does not survive its connection.
        """
        loop = asyncio.get_running_loop()
        deadline, reconnects = loop.time() + timeout + _EXPIRY_GRACE_SECONDS, self._nats.client.stats["reconnects"]
        while True:
            try:
                return await inbox.next_msg(timeout=_WAIT_SECONDS)
            except NatsTimeout:
                if loop.time() > deadline or self._nats.client.stats["reconnects"] != reconnects:
                    raise

    async def _request(self, inbox: Subscription, timeout: float) -> None:
        # Not the library's `fetch`, which returns either one message or a whole batch at its timeout: here a single
        # request is for many events, and each is returned as it arrives.
        request = orjson.dumps({"batch": _BATCH, "expires": int(timeout * 1e9)})
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{self._consumer}"
        await self._nats.client.publish(subject, request, reply=inbox.subject)
        self._requested = _BATCH


def parse(message: Msg) -> StreamedEvent:
    """Parse an event; its subject is `imago.events.<client>.<image>.<name…>`."""
    _, _, client, _, name = message.subject.split(".", 4)
    return StreamedEvent(message.metadata.sequence.stream, client, name, message.data)
