"""The bus on a real NATS server."""

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from nats.js.api import ConsumerConfig

from devtools.nats import NatsServer
from devtools.waiting import until
from imago.core.jobs.stages import STAGES, Stage
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.core.outbox.subjects import work_stream, work_subject
from imago.nats import advisories
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.consumer import Delivery, WorkConsumer
from imago.nats.embedded import EmbeddedNats
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, delete_lane, ensure_lane, ensure_streams, existing_lanes
from imago.settings import Settings

QUICK = StreamOptions(ack_wait=1.0)


def row(stage: Stage, lane: str, *, message_id: str | None = None) -> OutboxRow:
    message_id = message_id or uuid4().hex
    return OutboxRow(1, OutboxKind.WORK, work_subject(lane, stage, uuid4()), {"n": message_id}, {}, message_id)


def consumer(nats: NatsConnection, handler, *, jobs: int = 4, lanes: str = "premium,standard") -> WorkConsumer:
    return WorkConsumer(
        nats, stages=(Stage.EXIF,), lanes=WorkerLanes.parse(lanes), max_jobs=jobs, heartbeat=0.3, handler=handler
    )


async def unsettled(nats: NatsConnection, lane: str = "standard") -> int:
    info = await nats.js.consumer_info(work_stream(lane), "exif")
    return (info.num_ack_pending or 0) + (info.num_pending or 0)


async def test_the_topology_is_made_once_however_often_and_by_how_many(nats: NatsConnection) -> None:
    own = uuid4().hex
    await asyncio.gather(*(ensure_streams(nats.js, lanes=[own], options=QUICK) for _ in range(4)))
    await ensure_streams(nats.js, options=QUICK)
    assert set(await existing_lanes(nats.js)) == {"premium", "standard", own}
    for lane in ("premium", "standard", own):
        names = {info.name for info in await nats.js.consumers_info(work_stream(lane))}
        assert names == {str(stage) for stage in STAGES}
    await delete_lane(nats.js, own)
    await delete_lane(nats.js, own)
    assert own not in await existing_lanes(nats.js)


async def test_a_changed_setting_reaches_what_exists(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=QUICK)
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=7.0))
    info = await nats.js.consumer_info(work_stream("standard"), "ocr")
    assert info.config.ack_wait == 7.0
    assert not info.config.backoff, "a backoff would override ack_wait"


async def test_premium_is_served_first_and_standard_is_never_starved(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=QUICK)
    publisher = Publisher(nats, timeout=5)
    await publisher.publish_many([row(Stage.EXIF, lane) for lane in ("standard", "premium") for _ in range(40)])
    order: list[str] = []

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.005)
        order.append(delivery.lane)
        await delivery.ack()

    working = consumer(nats, handle, jobs=1)
    running = asyncio.create_task(working.run())
    await until(_value(lambda: len(order) == 80), what="all 80 jobs")
    await working.stop(grace=1)
    await running
    early = order[:44]
    assert early.count("premium") >= 36, order
    assert early.count("standard") >= 4, order


async def test_a_message_comes_again_after_its_delay_and_not_before(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=30))
    await Publisher(nats, timeout=5).publish(row(Stage.EXIF, "standard"))
    moments: list[float] = []

    async def handle(delivery: Delivery) -> None:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) == 1:
            await delivery.nak(timedelta(seconds=0.7))
        else:
            assert delivery.deliveries == 2
            await delivery.ack()

    working = consumer(nats, handle)
    running = asyncio.create_task(working.run())
    await until(_value(lambda: len(moments) == 2), what="the second delivery")
    await working.stop(grace=1)
    await running
    assert moments[1] - moments[0] >= 0.6


async def test_a_long_job_that_says_so_is_not_delivered_again(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=QUICK)
    await Publisher(nats, timeout=5).publish(row(Stage.EXIF, "standard"))
    deliveries: list[int] = []

    async def handle(delivery: Delivery) -> None:
        deliveries.append(delivery.deliveries)
        for _ in range(9):
            await asyncio.sleep(0.33)
            await delivery.in_progress()
        await delivery.ack()

    working = consumer(nats, handle)
    running = asyncio.create_task(working.run())
    await until(_value(lambda: bool(deliveries)), what="the delivery")
    await until(lambda: _none_left(nats), what="the acknowledgement")
    await working.stop(grace=1)
    await running
    assert deliveries == [1]


async def test_stopping_gives_back_what_is_held(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=30))
    await Publisher(nats, timeout=5).publish_many([row(Stage.EXIF, "standard") for _ in range(6)])
    begun = asyncio.Event()

    async def handle(_delivery: Delivery) -> None:
        begun.set()
        await asyncio.sleep(60)

    working = consumer(nats, handle, jobs=2)
    running = asyncio.create_task(working.run())
    await begun.wait()
    await working.stop(grace=0.1)
    await running
    seen: list[int] = []

    async def ack(delivery: Delivery) -> None:
        seen.append(delivery.deliveries)
        await delivery.ack()

    second = consumer(nats, ack, jobs=6)
    running = asyncio.create_task(second.run())
    # Far below ack_wait: what was held came back by a nak.
    await until(_value(lambda: len(seen) == 6), what="all six messages", timeout=10)
    await second.stop(grace=1)
    await running


async def test_stopping_ends_although_a_cancellation_was_lost(
    nats: NatsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def answered_at_that_moment(_js: object) -> tuple[str, ...]:
        # What `asyncio.wait_for`, with which the library waits, does to a cancellation that comes with the answer.
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ()

    monkeypatch.setattr("imago.nats.consumer.existing_lanes", answered_at_that_moment)
    await ensure_streams(nats.js, options=QUICK)

    async def handle(_delivery: Delivery) -> None:
        raise AssertionError("there is no message")

    working = consumer(nats, handle, lanes="standard,*")
    running = asyncio.create_task(working.run())
    await asked.wait()
    await working.stop(grace=0.1)
    async with asyncio.timeout(15):
        await running


async def test_a_consumer_that_is_missing_or_recreated_is_waited_for(nats: NatsConnection) -> None:
    seen: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.data)
        await delivery.ack()

    working = consumer(nats, handle)
    running = asyncio.create_task(working.run())
    await asyncio.sleep(0)
    await ensure_streams(nats.js, options=QUICK)
    publisher = Publisher(nats, timeout=5)
    await publisher.publish(row(Stage.EXIF, "standard"))
    await until(_value(lambda: len(seen) == 1), what="the first message")
    await nats.js.delete_consumer(work_stream("standard"), "exif")
    await ensure_lane(nats.js, "standard", options=QUICK)
    await publisher.publish(row(Stage.EXIF, "standard"))
    await until(_value(lambda: len(seen) == 2), what="the message after the consumer was made anew")
    await working.stop(grace=1)
    await running


async def test_a_killed_server_is_found_again(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    nats = NatsConnection(Settings(nats_url=(server.url,)), name="test")
    await nats.start()
    await nats.wait_connected(10)
    seen: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.data)
        await delivery.ack()

    try:
        await ensure_streams(nats.js, options=QUICK)
        working = consumer(nats, handle)
        running = asyncio.create_task(working.run())
        publisher = Publisher(nats, timeout=2)
        await publisher.publish(row(Stage.EXIF, "standard"))
        await until(_value(lambda: len(seen) == 1), what="a message before the crash")
        server.kill()
        await until(_value(lambda: not nats.connected), what="the loss to be noticed")
        with pytest.raises(NatsUnavailable):
            await publisher.publish(row(Stage.EXIF, "standard"))
        server.start()
        await until(_value(lambda: nats.connected), what="the connection to come back")
        await publisher.publish(row(Stage.EXIF, "standard"))
        await until(_value(lambda: len(seen) == 2), what="a message after the crash")
        await working.stop(grace=1)
        await running
    finally:
        await nats.close()
        server.stop()


async def test_a_bus_starts_while_its_server_is_away(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    nats = NatsConnection(Settings(nats_url=(server.url,)), name="test")
    await nats.start()
    with pytest.raises(NatsUnavailable):
        _ = nats.js
    with pytest.raises(NatsUnavailable):
        await nats.wait_connected(0.2)
    server.start()
    await nats.wait_connected(15)
    await nats.close()
    server.stop()


async def test_a_second_publication_of_an_id_is_told_as_a_duplicate(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=QUICK)
    publisher = Publisher(nats, timeout=5)
    first = await publisher.publish(row(Stage.EXIF, "standard", message_id="same"))
    second = await publisher.publish(row(Stage.EXIF, "standard", message_id="same"))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.sequence == first.sequence


async def test_a_message_given_up_while_nobody_read_is_told_afterwards(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=QUICK)
    stream = work_stream("standard")
    config = (await nats.js.consumer_info(stream, "exif")).config
    await nats.js.delete_consumer(stream, "exif")
    short = ConsumerConfig(
        durable_name="exif",
        filter_subject=config.filter_subject,
        ack_policy=config.ack_policy,
        ack_wait=0.2,
        max_deliver=1,
    )
    await nats.js.add_consumer(stream, short)
    ack = await Publisher(nats, timeout=5).publish(row(Stage.EXIF, "standard"))
    subscription = await nats.js.pull_subscribe_bind(consumer="exif", stream=stream)
    await subscription.fetch(1, timeout=2)

    async def read() -> list[advisories.AdvisoryMessage]:
        return await advisories.read_advisories(nats, timeout=0.3)

    (received,) = await until(read, what="the advisory")
    assert received.advisory is not None
    assert (received.advisory.stream, received.advisory.sequence) == (stream, ack.sequence)
    await received.ack()


async def test_the_embedded_server_keeps_strangers_out_and_its_password_private(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    await server.start()
    try:
        assert (tmp_path / "nats-server.conf").stat().st_mode & 0o077 == 0
        settings = Settings(nats_url=(server.url,), nats_user=server.user, nats_password=server.password)
        nats = NatsConnection(settings, name="test")
        await nats.start()
        await nats.wait_connected(10)
        await ensure_streams(nats.js, options=QUICK)
        await nats.close()
        stranger = NatsConnection(Settings(nats_url=(server.url,)), name="stranger")
        await stranger.start()
        with pytest.raises(NatsUnavailable):
            await stranger.wait_connected(0.5)
        await stranger.close()
        async with aiohttp.ClientSession() as session, session.get(f"{server.monitor_url}/healthz") as answer:
            assert answer.status == 200
    finally:
        await server.stop()
    assert server.pid is None


def _value(read):
    async def condition() -> bool:
        return bool(read())

    return condition


async def _none_left(nats: NatsConnection) -> bool:
    return await unsettled(nats) == 0
