"""Fans the stream of events out to those who listen: one reader a process, a bounded queue a listener.

A listener that reads more slowly than events come is dropped when its queue is full; it comes back with the id of the
last event it got and misses nothing.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field

import structlog

from imago.cancellation import end_tasks
from imago.core.clients.model import Client
from imago.core.errors import RateLimited
from imago.core.lanes.model import client_token
from imago.core.outbox.subjects import client_event_subjects
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.event_stream import EventReader, EventStreamState, StreamedEvent, event_stream_state
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

# As many events as a listener may be behind: about a hundred images, a few hundred kilobytes at most.
QUEUE_EVENTS = 1000

# Of one client, in one process: a browser tab is one.
MAX_LISTENERS = 100

_READ_SECONDS = 5.0
_REST_SECONDS = 1.0


@dataclass(frozen=True)
class Sent:
    """What goes to a listener: an event under its id, or (`event` None) the word that it must look for itself."""

    id: str
    event: StreamedEvent | None


@dataclass(eq=False)
class Listener:
    """One open event stream of one client."""

    client: str
    queue: asyncio.Queue[Sent | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_EVENTS))
    dropped: bool = False

    def offer(self, sent: Sent | None) -> None:
        """Queue something (None ends the stream), or drop the listener that doesn't keep up."""
        if self.dropped:
            return
        try:
            self.queue.put_nowait(sent)
        except asyncio.QueueFull:
            self.dropped = True
            metrics.EVENT_LISTENERS_DROPPED.inc()


class EventHub:
    """Reads all events and hands them to the listeners of their clients."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._extent: EventStreamState | None = None
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._run(), name="event-hub")

    def dismiss(self) -> None:
        """End all streams, as the process is about to; their clients come back to another one."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.offer(None)

    async def close(self) -> None:
        """Stop reading."""
        await end_tasks(self._task)

    @contextlib.contextmanager
    def _listening(self, client: Client) -> Iterator[Listener]:
        listener = Listener(client_token(client.uuid))
        if len(self._listeners.get(listener.client, ())) >= MAX_LISTENERS:
            raise RateLimited(f"A client may have {MAX_LISTENERS} event streams open here.", retry_after=5)
        self._listeners[listener.client].add(listener)
        metrics.EVENT_LISTENERS.inc()
        try:
            yield listener
        finally:
            metrics.EVENT_LISTENERS.dec()
            self._listeners[listener.client].discard(listener)
            if not self._listeners[listener.client]:
                del self._listeners[listener.client]

    async def listen(self, client: Client, *, after: str | None, pause: float) -> AsyncGenerator[Sent | None]:
        """Give a client's events behind an id, then those that come; None at once, and after each quiet `pause`.

        Ends where the listener falls too far behind. An id that this stream never gave, or whose successors it has
        forgotten, is answered with an event-less `Sent` first. Raises NatsUnavailable where the past can't be read, and
        RateLimited where the client has too many streams.
        """
        with self._listening(client) as listener:
            await self._wait_started()
            present = await event_stream_state(self._nats)
            start = _position(after, present)
            # From here on nothing is missed, so the caller may tell its client that it is heard.
            yield None
            if start is None and after is not None:
                yield Sent(event_id(present.created, present.last), None)
            caught_up = present.last
            if start is not None:
                async for event in self._past(client, start):
                    caught_up = max(caught_up, event.sequence)
                    yield Sent(event_id(present.created, event.sequence), event)
            created = present.created
            while not listener.dropped:
                try:
                    async with asyncio.timeout(pause):
                        sent = await listener.queue.get()
                except TimeoutError:
                    yield None
                    continue
                if sent is None:
                    return
                if sent.event is None:
                    created = -1
                elif sent.id.startswith(f"{created}-") and sent.event.sequence <= caught_up:
                    # It came while the past was read, and was part of it.
                    continue
                yield sent

    async def _wait_started(self) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await self._started.wait()
        except TimeoutError:
            raise NatsUnavailable("the events can't be read yet") from None

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
                if event is not None and self._extent is not None:
                    self._hand_out(event, self._extent)
            except NatsUnavailable as error:
                log.info("events can't be read, trying again", error=str(error))
                reader = None
                await asyncio.sleep(_REST_SECONDS)
            except Exception:
                log.exception("reading events failed")
                reader = None
                await asyncio.sleep(_REST_SECONDS)

    async def _resume(self) -> EventReader:
        """Go on where reading broke off; in a stream that was made anew or has forgotten that place, begin anew."""
        present, before = await event_stream_state(self._nats), self._extent
        if before is None:
            self._extent = present
            self._started.set()
            return EventReader(self._nats, after=present.last)
        if before.created == present.created and present.first - 1 <= before.last <= present.last:
            return EventReader(self._nats, after=before.last)
        self._extent = present
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.offer(Sent(event_id(present.created, present.last), None))
        return EventReader(self._nats, after=present.last)

    def _hand_out(self, event: StreamedEvent, seen: EventStreamState) -> None:
        self._extent = EventStreamState(seen.created, seen.first, event.sequence)
        for listener in self._listeners.get(event.client, ()):
            listener.offer(Sent(event_id(seen.created, event.sequence), event))


def event_id(created: int, sequence: int) -> str:
    """Return the id of an event: which stream, and where in it."""
    return f"{created}-{sequence}"


def _position(text: str | None, present: EventStreamState) -> int | None:
    """Return the sequence that an id names, where the stream still has everything behind it."""
    created, _, sequence = (text or "").partition("-")
    if not (created.isascii() and created.isdigit() and sequence.isascii() and sequence.isdigit()):
        return None
    if len(sequence) > 19 or created != str(present.created):
        return None
    position = int(sequence)
    return position if present.first - 1 <= position <= present.last else None
