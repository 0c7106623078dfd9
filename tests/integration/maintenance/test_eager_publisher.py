"""The eager publisher publishes rows right after their commit."""

from devtools.waiting import until
from imago.core.outbox.rows import outbox_state
from imago.db.engine import Database
from imago.maintenance.eager_publisher import EagerPublisher
from imago.nats.connection import NatsConnection
from tests.support.maintenance import count_located, count_messages
from tests.support.samples import make_client, make_image


async def test_the_messages_of_a_new_image_are_published_immediately_with_their_positions(
    db: Database, nats: NatsConnection, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    eager_publisher.publish_soon((await make_image(db, client)).outbox)

    async def done() -> bool:
        return await count_located(db) == 4

    await until(done, what="four stages with the position of their message")
    assert await count_messages(nats) == 4
    assert (await outbox_state(db)).parked == 0
