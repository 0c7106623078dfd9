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
from imago.nats.connection import Bus, BusUnavailable
from imago.nats.consumer import Delivery, WorkConsumer
from imago.nats.embedded import EmbeddedNats
from imago.nats.publisher import Publisher
from imago.nats.streams import Topology, drop_lane, ensure, ensure_lane, existing_lanes
from imago.settings import Settings

QUICK = Topology(ack_wait=1.0)


def row(stage: Stage, lane: str, *, message_id: str | None = None) -> OutboxRow:
    message_id = message_id or uuid4().hex
    return OutboxRow(1, OutboxKind.WORK, work_subject(lane, stage, uuid4()), {"n": message_id}, {}, message_id)


def consumer(bus: Bus, handler, *, jobs: int = 4, lanes: str = "premium,standard") -> WorkConsumer:
    return WorkConsumer(
        bus, stages=(Stage.EXIF,), lanes=WorkerLanes.parse(lanes), max_jobs=jobs, heartbeat=0.3, handler=handler
    )


async def unsettled(bus: Bus, lane: str = "standard") -> int:
    info = await bus.js.consumer_info(work_stream(lane), "exif")
    return (info.num_ack_pending or 0) + (info.num_pending or 0)


async def test_the_topology_is_made_once_however_often_and_by_how_many(bus: Bus) -> None:
    own = uuid4().hex
    await asyncio.gather(*(ensure(bus.js, lanes=[own], topology=QUICK) for _ in range(4)))
    await ensure(bus.js, topology=QUICK)
    assert set(await existing_lanes(bus.js)) == {"premium", "standard", own}
    for lane in ("premium", "standard", own):
        names = {info.name for info in await bus.js.consumers_info(work_stream(lane))}
        assert names == {str(stage) for stage in STAGES}
    await drop_lane(bus.js, own)
    await drop_lane(bus.js, own)
    assert own not in await existing_lanes(bus.js)


async def test_a_changed_setting_reaches_what_exists(bus: Bus) -> None:
    await ensure(bus.js, topology=QUICK)
    await ensure(bus.js, topology=Topology(ack_wait=7.0))
    info = await bus.js.consumer_info(work_stream("standard"), "ocr")
    assert info.config.ack_wait == 7.0
    assert not info.config.backoff, "a backoff would override ack_wait"


async def test_premium_is_served_first_and_standard_is_never_starved(bus: Bus) -> None:
    await ensure(bus.js, topology=QUICK)
    publisher = Publisher(bus, timeout=5)
    await publisher.publish_many([row(Stage.EXIF, lane) for lane in ("standard", "premium") for _ in range(40)])
    order: list[str] = []

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.005)
        order.append(delivery.lane)
        await delivery.ack()

    working = consumer(bus, handle, jobs=1)
    running = asyncio.create_task(working.run())
    await until(_value(lambda: len(order) == 80), what="all 80 jobs")
    await working.stop(grace=1)
    await running
    early = order[:44]
    assert early.count("premium") >= 36, order
    assert early.count("standard") >= 4, order


async def test_a_message_comes_again_after_its_delay_and_not_before(bus: Bus) -> None:
    await ensure(bus.js, topology=Topology(ack_wait=30))
    await Publisher(bus, timeout=5).publish(row(Stage.EXIF, "standard"))
    moments: list[float] = []

    async def handle(delivery: Delivery) -> None:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) == 1:
            await delivery.nak(timedelta(seconds=0.7))
        else:
            assert delivery.deliveries == 2
            await delivery.ack()

    working = consumer(bus, handle)
    running = asyncio.create_task(working.run())
    await until(_value(lambda: len(moments) == 2), what="the second delivery")
    await working.stop(grace=1)
    await running
    assert moments[1] - moments[0] >= 0.6


async def test_a_long_job_that_says_so_is_not_delivered_again(bus: Bus) -> None:
    await ensure(bus.js, topology=QUICK)
    await Publisher(bus, timeout=5).publish(row(Stage.EXIF, "standard"))
    deliveries: list[int] = []

    async def handle(delivery: Delivery) -> None:
        deliveries.append(delivery.deliveries)
        for _ in range(9):
            await asyncio.sleep(0.33)
            await delivery.in_progress()
        await delivery.ack()

    working = consumer(bus, handle)
    running = asyncio.create_task(working.run())
    await until(_value(lambda: bool(deliveries)), what="the delivery")
    await until(lambda: _none_left(bus), what="the acknowledgement")
    await working.stop(grace=1)
    await running
    assert deliveries == [1]


async def test_stopping_gives_back_what_is_held(bus: Bus) -> None:
    await ensure(bus.js, topology=Topology(ack_wait=30))
    await Publisher(bus, timeout=5).publish_many([row(Stage.EXIF, "standard") for _ in range(6)])
    begun = asyncio.Event()

    async def handle(_delivery: Delivery) -> None:
        begun.set()
        await asyncio.sleep(60)

    working = consumer(bus, handle, jobs=2)
    running = asyncio.create_task(working.run())
    await begun.wait()
    await working.stop(grace=0.1)
    await running
    seen: list[int] = []

    async def ack(delivery: Delivery) -> None:
        seen.append(delivery.deliveries)
        await delivery.ack()

    second = consumer(bus, ack, jobs=6)
    running = asyncio.create_task(second.run())
    # Far below ack_wait: what was held came back by a nak.
    await until(_value(lambda: len(seen) == 6), what="all six messages", timeout=10)
    await second.stop(grace=1)
    await running


async def test_stopping_ends_although_a_cancellation_was_lost(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def answered_at_that_moment(_js: object) -> tuple[str, ...]:
        # What `asyncio.wait_for`, with which the library waits, does to a cancellation that comes with the answer.
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ()

    monkeypatch.setattr("imago.nats.consumer.existing_lanes", answered_at_that_moment)
    await ensure(bus.js, topology=QUICK)

    async def handle(_delivery: Delivery) -> None:
        raise AssertionError("there is no message")

    working = consumer(bus, handle, lanes="standard,*")
    running = asyncio.create_task(working.run())
    await asked.wait()
    await working.stop(grace=0.1)
    async with asyncio.timeout(15):
        await running


async def test_a_consumer_that_is_missing_or_recreated_is_waited_for(bus: Bus) -> None:
    seen: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.data)
        await delivery.ack()

    working = consumer(bus, handle)
    running = asyncio.create_task(working.run())
    await asyncio.sleep(0)
    await ensure(bus.js, topology=QUICK)
    publisher = Publisher(bus, timeout=5)
    await publisher.publish(row(Stage.EXIF, "standard"))
    await until(_value(lambda: len(seen) == 1), what="the first message")
    await bus.js.delete_consumer(work_stream("standard"), "exif")
    await ensure_lane(bus.js, "standard", topology=QUICK)
    await publisher.publish(row(Stage.EXIF, "standard"))
    await until(_value(lambda: len(seen) == 2), what="the message after the consumer was made anew")
    await working.stop(grace=1)
    await running


async def test_a_killed_server_is_found_again(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    bus = Bus(Settings(nats_url=(server.url,)), name="test")
    await bus.start()
    await bus.wait_connected(10)
    seen: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.data)
        await delivery.ack()

    try:
        await ensure(bus.js, topology=QUICK)
        working = consumer(bus, handle)
        running = asyncio.create_task(working.run())
        publisher = Publisher(bus, timeout=2)
        await publisher.publish(row(Stage.EXIF, "standard"))
        await until(_value(lambda: len(seen) == 1), what="a message before the crash")
        server.kill()
        await until(_value(lambda: not bus.connected), what="the loss to be noticed")
        with pytest.raises(BusUnavailable):
            await publisher.publish(row(Stage.EXIF, "standard"))
        server.start()
        await until(_value(lambda: bus.connected), what="the connection to come back")
        await publisher.publish(row(Stage.EXIF, "standard"))
        await until(_value(lambda: len(seen) == 2), what="a message after the crash")
        await working.stop(grace=1)
        await running
    finally:
        await bus.close()
        server.stop()


async def test_a_bus_starts_while_its_server_is_away(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    bus = Bus(Settings(nats_url=(server.url,)), name="test")
    await bus.start()
    with pytest.raises(BusUnavailable):
        _ = bus.js
    with pytest.raises(BusUnavailable):
        await bus.wait_connected(0.2)
    server.start()
    await bus.wait_connected(15)
    await bus.close()
    server.stop()


async def test_a_second_publication_of_an_id_is_told_as_a_duplicate(bus: Bus) -> None:
    await ensure(bus.js, topology=QUICK)
    publisher = Publisher(bus, timeout=5)
    first = await publisher.publish(row(Stage.EXIF, "standard", message_id="same"))
    second = await publisher.publish(row(Stage.EXIF, "standard", message_id="same"))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.sequence == first.sequence


async def test_a_message_given_up_while_nobody_read_is_told_afterwards(bus: Bus) -> None:
    await ensure(bus.js, topology=QUICK)
    stream = work_stream("standard")
    config = (await bus.js.consumer_info(stream, "exif")).config
    await bus.js.delete_consumer(stream, "exif")
    short = ConsumerConfig(
        durable_name="exif",
        filter_subject=config.filter_subject,
        ack_policy=config.ack_policy,
        ack_wait=0.2,
        max_deliver=1,
    )
    await bus.js.add_consumer(stream, short)
    ack = await Publisher(bus, timeout=5).publish(row(Stage.EXIF, "standard"))
    subscription = await bus.js.pull_subscribe_bind(consumer="exif", stream=stream)
    await subscription.fetch(1, timeout=2)

    async def read() -> list[advisories.Received]:
        return await advisories.read_advisories(bus, timeout=0.3)

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
        bus = Bus(settings, name="test")
        await bus.start()
        await bus.wait_connected(10)
        await ensure(bus.js, topology=QUICK)
        await bus.close()
        stranger = Bus(Settings(nats_url=(server.url,)), name="stranger")
        await stranger.start()
        with pytest.raises(BusUnavailable):
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


async def _none_left(bus: Bus) -> bool:
    return await unsettled(bus) == 0
