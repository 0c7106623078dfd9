"""The stream reconciler recreates streams and requeues stages whose message was lost."""

import asyncio

import sqlalchemy as sa

from devtools.waiting import until
from imago.core.jobs.stages import STAGES
from imago.core.outbox.subjects import work_stream
from imago.db.engine import Database
from imago.db.tables import clients
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.stream_reconciler import StreamReconciler
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from tests.support.maintenance import SETTINGS, count_messages, publish_outbox
from tests.support.samples import make_client, make_image


async def test_deleted_streams_are_recreated_with_all_open_stages(
    db: Database, nats: NatsConnection, publisher: Publisher, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    await make_image(db, client)
    await publish_outbox(db, nats, publisher)
    reconciler = StreamReconciler(SETTINGS, db, nats, eager_publisher)
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    assert await reconciler.run_once() == 0, "nothing is lost yet"
    for stream in await nats.js.streams_info():
        await nats.js.delete_stream(stream.config.name or "")
    assert await reconciler.run_once() == 4

    async def filled() -> bool:
        return await count_messages(nats) == 4

    await until(filled, what="the four messages in the new stream")
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    assert await reconciler.run_once() == 0, "each stage is requeued once"


async def test_concurrent_reconcilers_requeue_each_stage_once(
    db: Database, nats: NatsConnection, publisher: Publisher, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    for _ in range(5):
        await make_image(db, client)
    await publish_outbox(db, nats, publisher)
    await nats.js.purge_stream(work_stream("standard"))
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    counts = await asyncio.gather(*(StreamReconciler(SETTINGS, db, nats, eager_publisher).run_once() for _ in range(3)))
    assert sum(counts) == 20

    async def filled() -> bool:
        return await count_messages(nats) >= 20

    await until(filled, what="the messages in the stream")
    assert await count_messages(nats) == 20


async def test_a_stream_that_can_not_be_inspected_does_not_block_the_others(
    db: Database, nats: NatsConnection, publisher: Publisher, eager_publisher: EagerPublisher
) -> None:
    premium, standard = await make_client(db), await make_client(db)
    async with db.write() as connection:
        await connection.execute(sa.update(clients).where(clients.c.id == premium.id).values(lane="premium"))
    await make_image(db, premium)
    await make_image(db, standard)
    await publish_outbox(db, nats, publisher)
    for stage in STAGES:
        await nats.js.delete_consumer(work_stream("premium"), stage)
    await nats.js.purge_stream(work_stream("standard"))
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    # Not `run_once`, which would recreate the consumers.
    assert await StreamReconciler(SETTINGS, db, nats, eager_publisher).requeue_lost_stages() == 4


async def test_a_stage_whose_message_was_given_up_is_requeued(
    db: Database, nats: NatsConnection, publisher: Publisher, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    await make_image(db, client)
    await publish_outbox(db, nats, publisher)
    subscription = await nats.js.pull_subscribe_bind(consumer="ocr", stream=work_stream("standard"))
    (message,) = await subscription.fetch(1, timeout=5)
    await message.term()
    reconciler = StreamReconciler(SETTINGS, db, nats, eager_publisher)
    assert await until(reconciler.read_advisories, what="the advisory") == 1
    (message,) = await subscription.fetch(1, timeout=5)
    assert b'"epoch":2' in message.data


async def test_a_message_past_its_last_delivery_is_requeued_without_its_advisory(
    db: Database, nats: NatsConnection, publisher: Publisher, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    await make_image(db, client)
    stream = work_stream("standard")
    config = (await nats.js.consumer_info(stream, "ocr")).config
    await nats.js.delete_consumer(stream, "ocr")
    config.max_deliver, config.ack_wait = 1, 0.1
    await nats.js.add_consumer(stream, config)
    await publish_outbox(db, nats, publisher)
    subscription = await nats.js.pull_subscribe_bind(consumer="ocr", stream=stream)
    await subscription.fetch(1, timeout=5)

    async def given_up() -> bool:
        return (await nats.js.consumer_info(stream, "ocr")).num_ack_pending == 0

    await until(given_up, what="the consumer to give up the message")
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    # Not `run_once`, which would reset the consumer's `max_deliver`.
    assert await StreamReconciler(SETTINGS, db, nats, eager_publisher).requeue_lost_stages() == 1
    (message,) = await subscription.fetch(1, timeout=5)
    assert b'"epoch":2' in message.data
    assert await count_messages(nats) == 4
