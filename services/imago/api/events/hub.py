"""Distributes the stream of events to the listeners of a process: one reader, and a bounded queue per listener.

A listener that reads more slowly than events arrive is dropped when its queue is full. It reconnects with the id of the
last event it received and misses nothing.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field

import structlog

from imago.core.clients.model import Client
from imago.core.errors import RateLimited
from imago.core.lanes.model import client_token
from imago.core.outbox.subjects import client_event_subjects
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.event_stream import EventReader, EventStreamState, StreamedEvent, event_stream_state
from imago.runtime.cancellation import end_tasks
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

# How many events a listener may be behind: those of about a hundred images, a few hundred kilobytes at most.
QUEUE_EVENTS = 1000

# Of one client in one process; a browser tab is one listener.
MAX_LISTENERS = 100

_READ_SECONDS = 5.0
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class ListenerMessage:
    """An event with its id, or a reset (`event` is None): events after the listener's position may have been lost."""

    id: str
    event: StreamedEvent | None


@dataclass(eq=False)
class Listener:
    """One open event stream of one client."""

    client: str
    queue: asyncio.Queue[ListenerMessage | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_EVENTS))
    dropped: bool = False

    def offer(self, message: ListenerMessage | None) -> None:
        """Queue a message, or None to end the stream; drop the listener if its queue is full."""
        if self.dropped:
            return
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped = True
            metrics.EVENT_LISTENERS_DROPPED.inc()


class EventHub:
    """Reads all events and offers them to the listeners of their clients."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        # The state of the stream that is read; its `last` is the last event that was read.
        self._stream: EventStreamState | None = None
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Start reading."""
        self._task = asyncio.create_task(self._run(), name="event-hub")

    def dismiss(self) -> None:
        """End all streams because the process is shutting down; their clients reconnect to another process."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.offer(None)

    async def close(self) -> None:
        """Stop reading."""
        await end_tasks(self._task)

    async def listen(
        self, client: Client, *, after: str | None, pause: float
    ) -> AsyncGenerator[ListenerMessage | None]:
        """Yield a client's events after an id, then new ones; yield None first, and after each `pause` without events.

        Ends if the listener is dropped. An id of another stream, or one whose successors are no longer stored, results
        in a reset. Raises NatsUnavailable if past events can't be read, and RateLimited if the client has too many
        listeners.
        """
        with self._registered(client) as listener:
            await self._wait_started()
            state = await event_stream_state(self._nats)
            start = _position(after, state)
            # From here on no event is missed, so the caller may confirm to its client that the stream is open.
            yield None
            if start is None and after is not None:
                yield ListenerMessage(event_id(state.created, state.last), None)
            last_past = state.last
            if start is not None:
                async for event in self._past(client, start):
                    last_past = max(last_past, event.sequence)
                    yield ListenerMessage(event_id(state.created, event.sequence), event)
            async for message in _queued(listener, pause, EventStreamState(state.created, state.first, last_past)):
                yield message

    @contextlib.contextmanager
    def _registered(self, client: Client) -> Iterator[Listener]:
        listener = Listener(client_token(client.uuid))
        if len(self._listeners.get(listener.client, ())) >= MAX_LISTENERS:
            raise RateLimited(f"A client can have at most {MAX_LISTENERS} open event streams.", retry_after=5)
        self._listeners[listener.client].add(listener)
        metrics.EVENT_LISTENERS.inc()
        try:
            yield listener
        finally:
            metrics.EVENT_LISTENERS.dec()
            self._listeners[listener.client].discard(listener)
            if not self._listeners[listener.client]:
                del self._listeners[listener.client]

    async def _wait_started(self) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await self._started.wait()
        except TimeoutError:
            raise NatsUnavailable("the event stream can't be read yet") from None

    async def _past(self, client: Client, start: int) -> AsyncIterator[StreamedEvent]:
        reader = EventReader(self._nats, after=start, subjects=client_event_subjects(client.uuid))
        try:
            left = await reader.pending()
            while left:
                event = await reader.read(timeout=_READ_SECONDS)
                if event is None:
                    return
                yield event
                left -= 1
        finally:
            await reader.close()

    async def _run(self) -> None:
        reader: EventReader | None = None
        while True:
            try:
                if reader is None:
                    await self._nats.wait_connected()
                    reader = await self._resume()
                event = await reader.read(timeout=_READ_SECONDS)
                if event is not None and self._stream is not None:
                    self._distribute(event, self._stream)
            except NatsUnavailable as error:
                log.info("event-stream.unavailable", error=str(error))
                reader = None
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                log.exception("event-stream.failed")
                reader = None
                await asyncio.sleep(_RETRY_SECONDS)

    async def _resume(self) -> EventReader:
        """Read on after the last event; reset all listeners if the stream was recreated or no longer stores it."""
        state, previous = await event_stream_state(self._nats), self._stream
        if previous is None:
            self._stream = state
            self._started.set()
            return EventReader(self._nats, after=state.last)
        if previous.created == state.created and state.first - 1 <= previous.last <= state.last:
            return EventReader(self._nats, after=previous.last)
        self._stream = state
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.offer(ListenerMessage(event_id(state.created, state.last), None))
        return EventReader(self._nats, after=state.last)

    def _distribute(self, event: StreamedEvent, stream: EventStreamState) -> None:
        self._stream = EventStreamState(stream.created, stream.first, event.sequence)
        for listener in self._listeners.get(event.client, ()):
            listener.offer(ListenerMessage(event_id(stream.created, event.sequence), event))


async def _queued(listener: Listener, pause: float, past: EventStreamState) -> AsyncIterator[ListenerMessage | None]:
    """Yield queued messages, and None after each `pause` without one; skip events that were read as past ones."""
    created: int | None = past.created
    while not listener.dropped:
        try:
            async with asyncio.timeout(pause):
                message = await listener.queue.get()
        except TimeoutError:
            yield None
            continue
        if message is None:
            return
        if message.event is None:
            # After a reset the sequence numbers are those of another stream.
            created = None
        elif message.id.startswith(f"{created}-") and message.event.sequence <= past.last:
            continue
        yield message


def event_id(created: int, sequence: int) -> str:
    """Return the id of an event: when its stream was created, and its sequence in the stream."""
    return f"{created}-{sequence}"


def _position(text: str | None, state: EventStreamState) -> int | None:
    """Return the sequence of an event's id, or None if the stream doesn't store all events after it."""
    created, _, sequence = (text or "").partition("-")
    if not (created.isascii() and created.isdigit() and sequence.isascii() and sequence.isdigit()):
        return None
    if len(sequence) > 19 or created != str(state.created):
        return None
    position = int(sequence)
    return position if state.first - 1 <= position <= state.last else None
