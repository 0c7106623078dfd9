"""Publishing to a real NATS server."""

from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import ensure_streams
from tests.support.outbox_rows import work_row


async def test_the_second_message_with_an_id_is_a_duplicate_of_the_first(nats: NatsConnection) -> None:
    await ensure_streams(nats.js)
    publisher = Publisher(nats, timeout=5)
    first = await publisher.publish(work_row(message_id="same"))
    second = await publisher.publish(work_row(message_id="same"))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.sequence == first.sequence
