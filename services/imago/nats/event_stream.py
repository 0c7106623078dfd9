"""Reading the stream of events, from a place in it onwards, through whatever happens to NATS meanwhile.

A reader has a consumer of its own that the server forgets after a while without reads; the reader alone remembers how
far it came, and makes another one from there. So every event is read at least once as long as the stream keeps it.
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

# The server deletes a reader's consumer after this long without a read, so a process that died leaves nothing.
_FORGOTTEN_AFTER = 60.0

# As many events a request asks for; the inbox holds no more than that.
_BATCH = 500

# How much longer than a request lasts its end may take to be told.
_SILENCE_SECONDS = 5.0

_SLICE_SECONDS = 1.0

# What the server ends a request with that brought nothing (more): no messages, and its deadline.
_QUIET = ("404", "408")


@dataclass(frozen=True)
class StreamedEvent:
    """An event as it lies in the stream; `client` is the token of its subject, `data` its JSON."""

    sequence: int
    client: str
    name: str
    data: bytes


@dataclass(frozen=True)
class EventStreamState:
    """Which stream there is now, by the moment it was made (microseconds since 1970), and what it holds."""

    created: int
    first: int
    last: int


async def event_stream_state(nats: NatsConnection) -> EventStreamState:
    """Return what the stream of events holds now; raise BusUnavailable."""
    try:
        info = await nats.js.stream_info(EVENTS_STREAM)
    except (NatsError, OSError) as error:
        raise NatsUnavailable(type(error).__name__) from error
    created = int(info.created.timestamp() * 1e6) if info.created else 0
    return EventStreamState(created, info.state.first_seq, info.state.last_seq)


class EventReader:
    """Reads events behind a sequence, all clients' or (`subjects`) one's; not to be shared between tasks."""

    def __init__(self, nats: NatsConnection, *, after: int, subjects: str = EVENTS_SUBJECTS) -> None:
        self._nats = nats
        self._subjects = subjects
        self.position = after
        """The sequence of the last event that was read."""
        self._consumer: str | None = None
        self._inbox: Subscription | None = None
        self._awaited = 0

    async def read(self, *, timeout: float) -> StreamedEvent | None:
        """Return the next event, or None where none came in time; raise BusUnavailable."""
        try:
            inbox = self._inbox or await self._bind()
            if not self._awaited:
                await self._ask(inbox, timeout)
            message = await self._next(inbox, timeout)
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise NatsUnavailable(type(error).__name__) from error
        status = (message.headers or {}).get("Status")
        if status is None:
            self._awaited -= 1
            event = parse(message)
            self.position = event.sequence
            return event
        self._awaited = 0
        if status not in _QUIET:
            # The consumer was deleted, or nobody knows it any more: a restarted server has forgotten it.
            await self.close()
            raise NatsUnavailable(f"status {status}")
        return None

    async def pending(self) -> int:
        """Return how many events are still to be read; raise BusUnavailable."""
        try:
            if self._inbox is None:
                await self._bind()
            info = await self._nats.js.consumer_info(EVENTS_STREAM, self._consumer or "")
        except (NatsError, OSError) as error:
            await self.close()
            raise NatsUnavailable(type(error).__name__) from error
        return info.num_pending or 0

    async def close(self) -> None:
        """Let the consumer go."""
        inbox, consumer = self._inbox, self._consumer
        self._inbox = self._consumer = None
        self._awaited = 0
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
                inactive_threshold=_FORGOTTEN_AFTER,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self._consumer = info.name
        self._inbox = await self._nats.client.subscribe(self._nats.client.new_inbox())
        return self._inbox

    async def _next(self, inbox: Subscription, timeout: float) -> Msg:
        """Wait for what the server says next; raise TimeoutError where it has forgotten us.

        Asked for with a deadline, it says when that is over, so silence beyond it means that it is gone. A connection
        that was made anew is enough to know that: the request died with the one before.
        """
        loop = asyncio.get_running_loop()
        deadline, connection = loop.time() + timeout + _SILENCE_SECONDS, self._nats.client.stats["reconnects"]
        while True:
            try:
                return await inbox.next_msg(timeout=_SLICE_SECONDS)
            except NatsTimeout:
                if loop.time() > deadline or self._nats.client.stats["reconnects"] != connection:
                    raise

    async def _ask(self, inbox: Subscription, timeout: float) -> None:
        # The library's `fetch` either asks for one message at a time or waits for its whole timeout; here events are
        # taken as they come, of a request for many.
        request = orjson.dumps({"batch": _BATCH, "expires": int(timeout * 1e9)})
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{self._consumer}"
        await self._nats.client.publish(subject, request, reply=inbox.subject)
        self._awaited = _BATCH


def parse(message: Msg) -> StreamedEvent:
    """Read an event's place, client and name from its subject `imago.events.<client>.<image>.<name…>`."""
    _, _, client, _, name = message.subject.split(".", 4)
    return StreamedEvent(message.metadata.sequence.stream, client, name, message.data)
