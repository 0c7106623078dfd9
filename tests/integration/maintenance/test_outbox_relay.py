"""The outbox relay publishes what crashes and outages left in the outbox."""

import asyncio

import pytest
from structlog.testing import capture_logs

from imago.core.outbox.subjects import work_stream
from imago.db.engine import Database
from imago.maintenance.outbox_relay import OutboxRelay
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from tests.support.maintenance import count_located, count_messages, make_due
from tests.support.samples import make_client, make_image


async def test_the_relay_publishes_the_rows_that_a_crash_left(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    client = await make_client(db)
    for _ in range(3):
        await make_image(db, client)
    relay = OutboxRelay(db, nats, publisher)
    assert await relay.run_once() == 0, "fresh rows are left to the eager publisher"
    await make_due(db)
    assert await relay.run_once() == 15
    assert await count_messages(nats) == 12
    assert await count_located(db) == 12


# On SQLite, a lease lets only one relay run at a time.
@pytest.mark.parametrize("db", ["postgresql"], indirect=True)
async def test_concurrent_relays_publish_each_row_once(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    client = await make_client(db)
    for _ in range(20):
        await make_image(db, client)
    await make_due(db)
    counts = await asyncio.gather(*(OutboxRelay(db, nats, publisher).run_once() for _ in range(4)))
    assert sum(counts) == 100
    assert await count_messages(nats) == 80


async def test_rows_that_a_full_stream_rejects_are_logged_and_published_later(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    config = (await nats.js.stream_info(work_stream("standard"))).config
    config.max_msgs = 1
    await nats.js.update_stream(config)
    await make_image(db, await make_client(db))
    await make_due(db)
    relay = OutboxRelay(db, nats, publisher)
    with capture_logs() as lines:
        assert await relay.run_once() == 2, "one stage, and the event of the image"
    (line,) = lines
    assert (line["event"], line["rows"]) == ("outbox.publish-failed", 3)
    assert line["errors"] == ["ServiceUnavailableError: maximum messages exceeded"]
    config.max_msgs = -1
    await nats.js.update_stream(config)
    await make_due(db)
    assert await relay.run_once() == 3
