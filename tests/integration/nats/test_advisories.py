"""Advisories about messages that a consumer gave up, on a real NATS server."""

from nats.js.api import ConsumerConfig

from devtools.waiting import until
from imago.core.outbox.subjects import work_stream
from imago.nats import advisories
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import ensure_streams
from tests.support.outbox_rows import work_row


async def test_an_advisory_is_kept_until_a_process_reads_it(nats: NatsConnection) -> None:
    await ensure_streams(nats.js)
    stream = work_stream("standard")
    config = (await nats.js.consumer_info(stream, "exif")).config
    await nats.js.delete_consumer(stream, "exif")
    single_delivery = ConsumerConfig(
        durable_name="exif",
        filter_subject=config.filter_subject,
        ack_policy=config.ack_policy,
        ack_wait=0.2,
        max_deliver=1,
    )
    await nats.js.add_consumer(stream, single_delivery)
    ack = await Publisher(nats, timeout=5).publish(work_row())
    subscription = await nats.js.pull_subscribe_bind(consumer="exif", stream=stream)
    await subscription.fetch(1, timeout=2)

    async def read() -> list[advisories.AdvisoryMessage]:
        return await advisories.read_advisories(nats, timeout=0.3)

    (message,) = await until(read, what="the advisory")
    assert message.advisory is not None
    assert (message.advisory.stream, message.advisory.sequence) == (stream, ack.sequence)
    await message.ack()
