"""Streams and consumers are created and updated on a real NATS server."""

import asyncio
from uuid import uuid4

import pytest
from nats.js.api import StorageType, StreamConfig

from imago.core.jobs.stages import STAGES
from imago.core.outbox.subjects import EVENTS_STREAM, EVENTS_SUBJECTS, work_stream
from imago.nats.connection import NatsConnection
from imago.nats.streams import StreamConflict, StreamOptions, delete_lane, ensure_streams, existing_lanes


async def test_streams_are_created_once_by_concurrent_processes(nats: NatsConnection) -> None:
    dedicated = uuid4().hex
    await asyncio.gather(*(ensure_streams(nats.js, lanes=[dedicated]) for _ in range(4)))
    await ensure_streams(nats.js)
    assert set(await existing_lanes(nats.js)) == {"premium", "standard", dedicated}
    for lane in ("premium", "standard", dedicated):
        names = {info.name for info in await nats.js.consumers_info(work_stream(lane))}
        assert names == {str(stage) for stage in STAGES}


async def test_deleting_a_lane_is_idempotent(nats: NatsConnection) -> None:
    dedicated = uuid4().hex
    await ensure_streams(nats.js, lanes=[dedicated])
    for _ in range(2):
        await delete_lane(nats.js, dedicated)
    assert set(await existing_lanes(nats.js)) == {"premium", "standard"}


async def test_a_changed_setting_updates_existing_consumers(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=1.0))
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=7.0))
    info = await nats.js.consumer_info(work_stream("standard"), "ocr")
    assert info.config.ack_wait == 7.0
    assert not info.config.backoff, "a backoff would override ack_wait"


@pytest.mark.parametrize(
    "existing",
    [
        StreamConfig(name=EVENTS_STREAM, subjects=[EVENTS_SUBJECTS], storage=StorageType.MEMORY),
        StreamConfig(name="OTHER", subjects=[EVENTS_SUBJECTS]),
    ],
    ids=["other storage", "overlapping subjects"],
)
async def test_an_existing_stream_that_jetstream_can_not_change_is_a_conflict(
    nats: NatsConnection, existing: StreamConfig
) -> None:
    await nats.js.add_stream(existing)
    with pytest.raises(StreamConflict, match=f"stream {EVENTS_STREAM}: .+"):
        await ensure_streams(nats.js)


async def test_replicas_without_a_cluster_are_a_conflict(nats: NatsConnection) -> None:
    with pytest.raises(StreamConflict, match="replicas > 1 not supported"):
        await ensure_streams(nats.js, options=StreamOptions(replicas=3))
