"""The configuration of all streams, consumers and buckets, and the functions that create and update them.

Only the API, the operator and `imago topology` call these functions. Workers never create a consumer: KEDA reads the
lag of exactly these consumers and reports an error for a missing one, so all have to exist before a worker starts.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
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
from nats.js.errors import APIError, BadRequestError, NotFoundError

from imago.core.jobs.stages import OPTIONAL_STAGES, Stage, server_stages
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

# Deduplication is only an optimisation: the database ensures that each result is stored once.
DEDUPE_WINDOW = 120.0

# Only a safety net: the attempts in the database end a run. Deliveries also count naks that are not attempts, such as
# those of a shutdown or of another worker's lease.
MAX_DELIVER = 1000

# At this limit, fetches return nothing, so it is far above the number of messages that all workers can hold.
MAX_ACK_PENDING = 10_000


class StreamsUnavailable(Exception):
    """NATS is unreachable or JetStream did not answer in time; the text is the name of the error."""


class StreamConflict(Exception):
    """JetStream rejects the configuration of a stream or consumer; an operator has to resolve the conflict."""


@dataclass(frozen=True)
class StreamOptions:
    """The replicas of each stream, the seconds until an unacknowledged message is redelivered, and disabled stages."""

    replicas: int = 1
    ack_wait: float = 30.0
    stages_off: frozenset[Stage] = OPTIONAL_STAGES

    @classmethod
    def of(cls, settings: Settings) -> "StreamOptions":
        """Return the options that the settings stand for."""
        return cls(settings.nats_replicas, settings.ack_wait, settings.stages_off)


def work_stream_config(lane: str, options: StreamOptions) -> StreamConfig:
    """Return the configuration of a lane's work stream."""
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
    """Return the configurations of the other streams: events, dead letters, and advisories about the work streams."""
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
    """Return the subjects of the advisories that a consumer of a lane gave up a message.

    Each stream is named, because a wildcard can't match part of a token, and a wildcard for all streams of the account
    would capture the advisories of other applications and overlap with their streams.
    """
    return sorted(
        f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{work_stream(lane)}.*"
        for kind in ("MAX_DELIVERIES", "MSG_TERMINATED")
        for lane in lanes
    )


def consumer_config(lane: str, stage: Stage, options: StreamOptions) -> ConsumerConfig:
    """Return the configuration of a stage's durable pull consumer on a lane's stream.

    It has no `backoff`, because that overrides both `ack_wait` and the delay of `nak(delay)`.
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
    """Create missing streams, consumers and buckets, and update those that differ.

    Idempotent, and safe to run concurrently in several processes. Raises StreamConflict if JetStream rejects a change.
    """
    options = options or StreamOptions()
    all_lanes = tuple(dict.fromkeys((*SHARED_LANES, *lanes, *await existing_lanes(js))))
    for config in shared_stream_configs(all_lanes, options):
        await _ensure_stream(js, config)
    for lane in all_lanes:
        await ensure_lane(js, lane, options=options)
    try:
        await js.key_value(BREAKERS_BUCKET)
    except NotFoundError:
        await js.create_key_value(KeyValueConfig(bucket=BREAKERS_BUCKET, history=1, replicas=options.replicas))


async def ensure_lane(js: JetStreamContext, lane: str, *, options: StreamOptions) -> None:
    """Create or update the stream and consumers of a lane."""
    await _ensure_stream(js, work_stream_config(lane, options))
    for stage in server_stages(options.stages_off):
        await _ensure_consumer(js, work_stream(lane), consumer_config(lane, stage, options))


async def delete_lane(js: JetStreamContext, lane: str) -> None:
    """Delete the stream of a dedicated lane, if it exists."""
    if lane in SHARED_LANES:
        raise ValueError(f"lane {lane} is shared")
    try:
        await js.delete_stream(work_stream(lane))
    except NotFoundError:
        return


async def lane_exists(js: JetStreamContext, lane: str) -> bool:
    """Return whether a lane's work stream exists."""
    return await _exists(js, work_stream(lane))


async def existing_lanes(js: JetStreamContext) -> tuple[str, ...]:
    """Return the lanes whose work stream exists."""
    lanes = [lane_of_stream(info.config.name or "") for info in await _all_streams(js)]
    return tuple(lane for lane in lanes if lane is not None)


async def _all_streams(js: JetStreamContext) -> list[StreamInfo]:
    found: list[StreamInfo] = []
    while True:
        page = await js.streams_info(offset=len(found))
        found.extend(page)
        # A response holds at most 256 streams.
        if len(page) < 256:
            return found


async def _ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    name = config.name or ""
    try:
        present = (await js.stream_info(name)).config
    except NotFoundError:
        try:
            with _rejection_is_conflict(f"stream {name}"):
                await js.add_stream(config)
        except StreamConflict:
            # Another process may have created it in between, with the same or with older settings.
            if not await _exists(js, name):
                raise
            await _ensure_stream(js, config)
        return
    if _differs(present, config, _STREAM_FIELDS):
        with _rejection_is_conflict(f"stream {name}"):
            await js.update_stream(config)


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
        with _rejection_is_conflict(f"consumer {stream}/{name}"):
            # This updates a durable consumer that exists.
            await js.add_consumer(stream, config)


# JetStream rejects some configurations with status 500 instead of 400: changes that it can't make to an existing stream
# (such as its storage type), and replicas on a server without a cluster.
_REJECTION_CODES = frozenset({10052, 10074})


@contextmanager
def _rejection_is_conflict(subject: str) -> Iterator[None]:
    """Raise StreamConflict if JetStream rejects the configuration of `subject`."""
    try:
        yield
    except APIError as error:
        if isinstance(error, BadRequestError) or error.err_code in _REJECTION_CODES:
            raise StreamConflict(f"{subject}: {error.description}") from error
        raise


class StreamManager:
    """Manages streams over its own connection, for the operator, which uses NATS for nothing else.

    The methods raise StreamsUnavailable and StreamConflict.
    """

    def __init__(self, settings: Settings, *, name: str) -> None:
        self._nats = NatsConnection(settings, name=name)
        self._options = StreamOptions.of(settings)

    async def start(self) -> None:
        """Start connecting, and return immediately."""
        await self._nats.start()

    async def close(self) -> None:
        """Close the connection."""
        await self._nats.close()

    async def ensure_all(self) -> None:
        """Create or update all streams, consumers and buckets, including those of existing dedicated lanes."""
        async with self._jetstream() as js:
            await ensure_streams(js, options=self._options)

    async def ensure_lane(self, lane: str) -> None:
        """Create or update a lane; a new one is also added to the captured advisories."""
        async with self._jetstream() as js:
            if await lane_exists(js, lane):
                await ensure_lane(js, lane, options=self._options)
            else:
                await ensure_streams(js, lanes=(lane,), options=self._options)

    async def delete_lane(self, lane: str) -> None:
        """Delete the stream of a dedicated lane, if it exists."""
        async with self._jetstream() as js:
            await delete_lane(js, lane)

    async def lane_exists(self, lane: str) -> bool:
        """Return whether a lane's work stream exists."""
        async with self._jetstream() as js:
            return await lane_exists(js, lane)

    @asynccontextmanager
    async def _jetstream(self) -> AsyncIterator[JetStreamContext]:
        if not self._nats.connected:
            raise StreamsUnavailable("not connected")
        try:
            yield self._nats.js
        except (NatsError, OSError, NatsUnavailable) as error:
            raise StreamsUnavailable(type(error).__name__) from error


_STREAM_FIELDS = ("subjects", "retention", "storage", "max_age", "duplicate_window", "num_replicas", "discard")
_CONSUMER_FIELDS = ("filter_subject", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending")


def _differs(present: object, desired: object, fields: Iterable[str]) -> bool:
    return any(
        getattr(desired, field) is not None and getattr(present, field) != getattr(desired, field) for field in fields
    )
