"""The pull loop of a worker on a real NATS server."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from devtools.nats import NatsServer
from devtools.waiting import until
from imago.core.jobs.stages import Stage
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.core.outbox.subjects import work_stream
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.consumer import Delivery, Handler, WorkConsumer
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_lane, ensure_streams
from imago.settings import Settings
from tests.support.outbox_rows import work_row

QUICK = StreamOptions(ack_wait=1.0)


def consumer(nats: NatsConnection, handler: Handler, *, jobs: int = 4, lanes: str = "premium,standard") -> WorkConsumer:
    return WorkConsumer(
        nats, stages=(Stage.EXIF,), lanes=WorkerLanes.parse(lanes), max_jobs=jobs, heartbeat=0.3, handler=handler
    )


async def test_premium_is_served_first_without_starving_standard(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=QUICK)
    publisher = Publisher(nats, timeout=5)
    await publisher.publish_many([work_row(lane=lane) for lane in ("standard", "premium") for _ in range(40)])
    order: list[str] = []

    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0.03)
        order.append(delivery.lane)
        await delivery.ack()

    working = consumer(nats, handle, jobs=1)
    running = asyncio.create_task(working.run())
    await until(_true(lambda: len(order) == 80), what="all 80 jobs")
    await working.stop(grace=1)
    await running
    early = order[:44]
    assert early.count("premium") >= 36, order
    assert early.count("standard") >= 4, order


async def test_a_returned_message_is_redelivered_after_its_delay(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=30))
    await Publisher(nats, timeout=5).publish(work_row())
    moments: list[float] = []

    async def handle(delivery: Delivery) -> None:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) == 1:
            await delivery.nak(timedelta(seconds=0.7))
        else:
            assert delivery.message.metadata.num_delivered == 2
            await delivery.ack()

    working = consumer(nats, handle)
    running = asyncio.create_task(working.run())
    await until(_true(lambda: len(moments) == 2), what="the second delivery")
    await working.stop(grace=1)
    await running
    assert moments[1] - moments[0] >= 0.6


async def test_a_long_job_that_reports_progress_is_not_redelivered(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=QUICK)
    await Publisher(nats, timeout=5).publish(work_row())
    deliveries: list[int] = []

    async def handle(delivery: Delivery) -> None:
        deliveries.append(delivery.message.metadata.num_delivered)
        for _ in range(9):
            await asyncio.sleep(0.33)
            await delivery.in_progress()
        await delivery.ack()

    working = consumer(nats, handle)
    running = asyncio.create_task(working.run())
    await until(_true(lambda: bool(deliveries)), what="the delivery")
    await until(lambda: _all_acknowledged(nats), what="the acknowledgement")
    await working.stop(grace=1)
    await running
    assert deliveries == [1]


async def test_stopping_returns_unfinished_messages(nats: NatsConnection) -> None:
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=30))
    await Publisher(nats, timeout=5).publish_many([work_row() for _ in range(6)])
    started = asyncio.Event()

    async def handle(_delivery: Delivery) -> None:
        started.set()
        await asyncio.sleep(60)

    working = consumer(nats, handle, jobs=2)
    running = asyncio.create_task(working.run())
    await started.wait()
    await working.stop(grace=0.1)
    await running
    seen: list[int] = []

    async def ack(delivery: Delivery) -> None:
        seen.append(delivery.message.metadata.num_delivered)
        await delivery.ack()

    second = consumer(nats, ack, jobs=6)
    running = asyncio.create_task(second.run())
    # Far below ack_wait, so the messages were returned by a nak.
    await until(_true(lambda: len(seen) == 6), what="all six messages", timeout=10)
    await second.stop(grace=1)
    await running


async def test_stopping_ends_even_if_a_cancellation_is_lost(
    nats: NatsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = asyncio.Event()

    async def swallows_its_cancellation(_js: object) -> tuple[str, ...]:
        # As `asyncio.wait_for`, which the library uses, loses a cancellation that arrives together with its result.
        called.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ()

    monkeypatch.setattr("imago.nats.consumer.existing_lanes", swallows_its_cancellation)
    await ensure_streams(nats.js, options=QUICK)

    async def handle(_delivery: Delivery) -> None:
        raise AssertionError("no message was published")

    working = consumer(nats, handle, lanes="standard,*")
    running = asyncio.create_task(working.run())
    await called.wait()
    await working.stop(grace=0.1)
    async with asyncio.timeout(15):
        await running


async def test_a_missing_or_recreated_consumer_is_subscribed_to_again(nats: NatsConnection) -> None:
    seen: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.data)
        await delivery.ack()

    working = consumer(nats, handle)
    running = asyncio.create_task(working.run())
    await asyncio.sleep(0)
    await ensure_streams(nats.js, options=QUICK)
    publisher = Publisher(nats, timeout=5)
    await publisher.publish(work_row())
    await until(_true(lambda: len(seen) == 1), what="the first message")
    await nats.js.delete_consumer(work_stream("standard"), "exif")
    await ensure_lane(nats.js, "standard", options=QUICK)
    await publisher.publish(work_row())
    await until(_true(lambda: len(seen) == 2), what="the message after the consumer was recreated")
    await working.stop(grace=1)
    await running


async def test_the_consumer_continues_after_a_crash_of_the_server(tmp_path: Path) -> None:
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
        await publisher.publish(work_row())
        await until(_true(lambda: len(seen) == 1), what="a message before the crash")
        server.kill()
        await until(_true(lambda: not nats.connected), what="the lost connection to be noticed")
        with pytest.raises(NatsUnavailable):
            await publisher.publish(work_row())
        server.start()
        await until(_true(lambda: nats.connected), what="the reconnect")
        await publisher.publish(work_row())
        await until(_true(lambda: len(seen) == 2), what="a message after the crash")
        await working.stop(grace=1)
        await running
    finally:
        await nats.close()
        server.stop()


def _true(read: Callable[[], object]) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        return bool(read())

    return condition


async def _all_acknowledged(nats: NatsConnection) -> bool:
    info = await nats.js.consumer_info(work_stream("standard"), "exif")
    return not info.num_ack_pending and not info.num_pending
