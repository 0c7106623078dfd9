"""Which streams, consumers and buckets there are, and the one function that makes them so.

KEDA reads the lag of exactly these consumers and errors where one is missing, so workers never create any: the API
and the operator call `ensure()`, which changes nothing where everything is right (DESIGN, section 5).
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import BadRequestError, NotFoundError

from imago.core.jobs.stages import STAGES, Stage
from imago.core.lanes.model import SHARED_LANES
from imago.core.outbox.subjects import (
    ADVISORIES_STREAM,
    BREAKERS_BUCKET,
    DEAD_STREAM,
    DEAD_SUBJECTS,
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    lane_of_stream,
    work_stream,
    work_subjects,
)
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.settings import Settings

HOUR = 3600.0
DAY = 24 * HOUR

# An optimisation only: exactness rests on the database.
DEDUPE_WINDOW = 120.0

# A guard above our own count of tries: deliveries also count naks that were no tries (a lease not over, a shutdown).
MAX_DELIVER = 1000

# Reaching it looks like an empty fetch, so it is far above what all workers together hold.
MAX_ACK_PENDING = 10_000


class StreamsUnavailable(Exception):
    """NATS can't be reached, or JetStream doesn't answer in time; the text names the kind of trouble."""


class StreamConflict(Exception):
    """A stream or consumer exists with a setting that JetStream can't change; a person has to decide."""


@dataclass(frozen=True)
class StreamOptions:
    """The settings that streams and consumers are made with: copies of each stream, seconds until a redelivery."""

    replicas: int = 1
    ack_wait: float = 30.0


def work_stream_config(lane: str, options: StreamOptions) -> StreamConfig:
    """Return the work stream of a lane."""
    return StreamConfig(
        name=work_stream(lane),
        subjects=[work_subjects(lane)],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        duplicate_window=DEDUPE_WINDOW,
        num_replicas=options.replicas,
        allow_direct=True,
    )


def shared_stream_configs(lanes: Iterable[str], options: StreamOptions) -> tuple[StreamConfig, ...]:
    """Return the streams that exist once: events, dead letters, and the advisories about the lanes' work streams."""
    streams = (
        (EVENTS_STREAM, [EVENTS_SUBJECTS], DAY),
        (DEAD_STREAM, [DEAD_SUBJECTS], 30 * DAY),
        (ADVISORIES_STREAM, advisory_subjects(lanes), 7 * DAY),
    )
    return tuple(
        StreamConfig(
            name=name,
            subjects=subjects,
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=age,
            duplicate_window=DEDUPE_WINDOW,
            num_replicas=options.replicas,
            allow_direct=True,
        )
        for name, subjects, age in streams
    )


def advisory_subjects(lanes: Iterable[str]) -> list[str]:
    """Return the subjects of the advisories about lanes' consumers that gave a message up.

    Each stream is named: a wildcard can't stand for a part of a token, and one over all streams of the account would
    take in other people's advisories and clash with whoever else captures theirs.
    """
    return sorted(
        f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{work_stream(lane)}.*"
        for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
        for lane in lanes
    )


def consumer_config(lane: str, stage: Stage, options: StreamOptions) -> ConsumerConfig:
    """Return the durable pull consumer of a stage on a lane's stream.

    There is no `backoff`: it would override `ack_wait` and spoil `nak(delay)` (FACTS: measured).
    """
    return ConsumerConfig(
        name=stage,
        durable_name=stage,
        filter_subject=work_subjects(lane, stage),
        ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.ALL,
        ack_wait=options.ack_wait,
        max_deliver=MAX_DELIVER,
        max_ack_pending=MAX_ACK_PENDING,
    )


async def ensure_streams(
    js: JetStreamContext,
    *,
    lanes: Iterable[str] = SHARED_LANES,
    options: StreamOptions | None = None,
) -> None:
    """Create what is missing and change what differs; idempotent, and safe to run in several processes at once.

    Raises TopologyConflict where JetStream refuses a change.
    """
    wanted = options or StreamOptions()
    every_lane = tuple(dict.fromkeys((*SHARED_LANES, *lanes, *await existing_lanes(js))))
    for config in shared_stream_configs(every_lane, wanted):
        await _ensure_stream(js, config)
    for lane in every_lane:
        await ensure_lane(js, lane, options=wanted)
    try:
        await js.key_value(BREAKERS_BUCKET)
    except NotFoundError:
        await js.create_key_value(KeyValueConfig(bucket=BREAKERS_BUCKET, history=1, replicas=wanted.replicas))


async def ensure_lane(js: JetStreamContext, lane: str, *, options: StreamOptions) -> None:
    """Create or update one lane's stream and its consumers."""
    await _ensure_stream(js, work_stream_config(lane, options))
    for stage in STAGES:
        await _ensure_consumer(js, work_stream(lane), consumer_config(lane, stage, options))


async def delete_lane(js: JetStreamContext, lane: str) -> None:
    """Delete the stream of a dedicated lane; nothing happens where it is gone already."""
    if lane in SHARED_LANES:
        raise ValueError(f"the lane {lane} is shared")
    try:
        await js.delete_stream(work_stream(lane))
    except NotFoundError:
        return


async def lane_exists(js: JetStreamContext, lane: str) -> bool:
    """Tell whether a lane has its work stream."""
    return await _exists(js, work_stream(lane))


async def existing_lanes(js: JetStreamContext) -> tuple[str, ...]:
    """Return the lanes that have a work stream now."""
    lanes = [lane_of_stream(info.config.name or "") for info in await _all_streams(js)]
    return tuple(lane for lane in lanes if lane is not None)


async def _all_streams(js: JetStreamContext) -> list[StreamInfo]:
    found: list[StreamInfo] = []
    while True:
        page = await js.streams_info(offset=len(found))
        found.extend(page)
        # A server answers with at most 256 streams at a time.
        if len(page) < 256:
            return found


async def _ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    name = config.name or ""
    try:
        present = (await js.stream_info(name)).config
    except NotFoundError:
        try:
            await js.add_stream(config)
        except BadRequestError as error:
            # Another process was first, with the same or with older settings.
            if not await _exists(js, name):
                raise StreamConflict(f"stream {name}: {error.description}") from error
            await _ensure_stream(js, config)
        return
    if _differs(present, config, _STREAM_FIELDS):
        try:
            await js.update_stream(config)
        except BadRequestError as error:
            raise StreamConflict(f"stream {name}: {error.description}") from error


async def _exists(js: JetStreamContext, name: str) -> bool:
    try:
        await js.stream_info(name)
    except NotFoundError:
        return False
    return True


async def _ensure_consumer(js: JetStreamContext, stream: str, config: ConsumerConfig) -> None:
    name = config.durable_name or ""
    try:
        present = (await js.consumer_info(stream, name)).config
    except NotFoundError:
        present = None
    if present is None or _differs(present, config, _CONSUMER_FIELDS):
        try:
            # Creating a durable that exists updates it.
            await js.add_consumer(stream, config)
        except BadRequestError as error:
            raise StreamConflict(f"consumer {stream}/{name}: {error.description}") from error


class StreamManager:
    """The topology for who has no other business with NATS, the operator: a connection of its own, and what to make.

    All methods raise TopologyUnavailable where NATS doesn't answer, and TopologyConflict.
    """

    def __init__(self, settings: Settings, *, name: str) -> None:
        self._nats = NatsConnection(settings, name=name)
        self._options = StreamOptions(replicas=settings.nats_replicas, ack_wait=settings.ack_wait)

    async def start(self) -> None:
        """Begin to connect, without waiting for it."""
        await self._nats.start()

    async def close(self) -> None:
        """Close the connection."""
        await self._nats.close()

    async def ensure_all(self) -> None:
        """Make everything that exists what it should be."""
        async with self._asking() as js:
            await ensure_streams(js, options=self._options)

    async def ensure_lane(self, lane: str) -> None:
        """Make a lane and its consumers, and have the advisories about them kept."""
        async with self._asking() as js:
            if await lane_exists(js, lane):
                await ensure_lane(js, lane, options=self._options)
            else:
                await ensure_streams(js, lanes=(lane,), options=self._options)

    async def delete_lane(self, lane: str) -> None:
        """Delete a lane's stream; nothing happens where it is gone."""
        async with self._asking() as js:
            await delete_lane(js, lane)

    async def lane_exists(self, lane: str) -> bool:
        """Tell whether a lane has its stream."""
        async with self._asking() as js:
            return await lane_exists(js, lane)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[JetStreamContext]:
        if not self._nats.connected:
            raise StreamsUnavailable("not connected")
        try:
            yield self._nats.js
        except (NatsError, OSError, NatsUnavailable) as error:
            raise StreamsUnavailable(type(error).__name__) from error


_STREAM_FIELDS = ("subjects", "retention", "storage", "max_age", "duplicate_window", "num_replicas", "discard")
_CONSUMER_FIELDS = ("filter_subject", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending")


def _differs(present: object, wanted: object, fields: Iterable[str]) -> bool:
    return any(
        getattr(wanted, field) is not None and getattr(present, field) != getattr(wanted, field) for field in fields
    )
