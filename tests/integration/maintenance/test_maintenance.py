"""Upkeep on a real NATS server and both databases: what was lost is published anew, what came to nothing is swept."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.core.images.changes import delete_image
from imago.core.jobs.stages import STAGES
from imago.core.outbox.rows import outbox_state
from imago.core.outbox.subjects import work_stream
from imago.core.times import utc_now
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.db.tables import clients, image_stages, tombstones, upload_intents
from imago.db.tables import outbox as outbox_table
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.object_cleaner import ObjectCleaner
from imago.maintenance.outbox_relay import OutboxRelay
from imago.maintenance.scheduler import MaintenanceScheduler, PeriodicTask
from imago.maintenance.stream_reconciler import StreamReconciler
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_streams
from imago.objects.local import LocalStore
from imago.objects.store import StorageUnavailable
from imago.settings import Settings
from tests.support.samples import make_client, make_image

SETTINGS = Settings(heartbeat=0.1)


async def messages(nats: NatsConnection, lane: str = "standard") -> int:
    return (await nats.js.stream_info(work_stream(lane))).state.messages


async def make_due(db: Database) -> None:
    async with db.write() as connection:
        await connection.execute(sa.update(outbox_table).values(due_at=utc_now() - timedelta(seconds=1)))


async def located(db: Database) -> int:
    async with db.read() as connection:
        query = sa.select(sa.func.count()).where(image_stages.c.sequence.is_not(None)).select_from(image_stages)
        return await connection.scalar(query) or 0


@pytest.fixture
async def publisher(nats: NatsConnection) -> Publisher:
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=SETTINGS.ack_wait))
    return Publisher(nats, timeout=5)


async def test_an_announced_image_is_in_the_stream_at_once_and_its_rows_say_where(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    client = await make_client(db)
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    eager_publisher.publish_soon((await make_image(db, client)).outbox)

    async def done() -> bool:
        return await located(db) == 4

    await until(done, what="four stages with the place of their message")
    assert await messages(nats) == 4
    assert (await outbox_state(db)).parked == 0
    await eager_publisher.close()


async def test_the_relay_publishes_what_a_crash_left(db: Database, nats: NatsConnection, publisher: Publisher) -> None:
    client = await make_client(db)
    for _ in range(3):
        await make_image(db, client)
    relay = OutboxRelay(db, nats, publisher)
    assert await relay.run_once() == 0, "fresh rows are left to the eager publisher"
    await make_due(db)
    assert await relay.run_once() == 15
    assert await messages(nats) == 12
    assert await located(db) == 12


async def test_relays_side_by_side_publish_each_row_once(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    if db.is_sqlite:
        pytest.skip("on SQLite a lease lets one relay work at a time")
    client = await make_client(db)
    for _ in range(20):
        await make_image(db, client)
    await make_due(db)
    counts = await asyncio.gather(*(OutboxRelay(db, nats, publisher).run_once() for _ in range(4)))
    assert sum(counts) == 100
    assert await messages(nats) == 80


async def test_wiped_streams_are_made_again_and_filled_with_what_is_open(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    client = await make_client(db)
    await make_image(db, client)
    await make_due(db)
    await OutboxRelay(db, nats, publisher).run_once()
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    reconciler = StreamReconciler(SETTINGS, db, nats, eager_publisher)
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    assert await reconciler.run_once() == 0, "nothing is lost yet"
    for stream in await nats.js.streams_info():
        await nats.js.delete_stream(stream.config.name or "")
    assert await reconciler.run_once() == 4

    async def filled() -> bool:
        return await messages(nats) == 4

    await until(filled, what="the four messages in the new stream")
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    assert await reconciler.run_once() == 0, "each is published anew once"
    await eager_publisher.close()


async def test_reconcilers_side_by_side_publish_each_stage_once(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    client = await make_client(db)
    for _ in range(5):
        await make_image(db, client)
    await make_due(db)
    await OutboxRelay(db, nats, publisher).run_once()
    await nats.js.purge_stream(work_stream("standard"))
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    counts = await asyncio.gather(*(StreamReconciler(SETTINGS, db, nats, eager_publisher).run_once() for _ in range(3)))
    assert sum(counts) == 20

    async def filled() -> bool:
        return await messages(nats) >= 20

    await until(filled, what="the messages in the stream")
    await eager_publisher.close()
    assert await messages(nats) == 20


async def test_a_stream_in_trouble_keeps_no_other_from_being_repaired(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    troubled, other = await make_client(db), await make_client(db)
    async with db.write() as connection:
        await connection.execute(sa.update(clients).where(clients.c.id == troubled.id).values(lane="premium"))
    await make_image(db, troubled)
    await make_image(db, other)
    await make_due(db)
    await OutboxRelay(db, nats, publisher).run_once()
    for stage in STAGES:
        await nats.js.delete_consumer(work_stream("premium"), stage)
    await nats.js.purge_stream(work_stream("standard"))
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    # Not `run_once`, which would make the consumers anew.
    assert await StreamReconciler(SETTINGS, db, nats, eager_publisher)._repair() == 4
    await eager_publisher.close()


async def test_a_given_up_message_is_published_anew(db: Database, nats: NatsConnection, publisher: Publisher) -> None:
    client = await make_client(db)
    await make_image(db, client)
    await make_due(db)
    await OutboxRelay(db, nats, publisher).run_once()
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    subscription = await nats.js.pull_subscribe_bind(consumer="ocr", stream=work_stream("standard"))
    (message,) = await subscription.fetch(1, timeout=5)
    await message.term()
    reconciler = StreamReconciler(SETTINGS, db, nats, eager_publisher)

    async def again() -> int:
        return await reconciler.read_advisories()

    assert await until(again, what="the advisory") == 1
    (message,) = await subscription.fetch(1, timeout=5)
    assert b'"epoch":2' in message.data
    await eager_publisher.close()


async def test_a_message_past_its_last_delivery_is_published_anew_without_its_advisory(
    db: Database, nats: NatsConnection, publisher: Publisher
) -> None:
    client = await make_client(db)
    await make_image(db, client)
    stream = work_stream("standard")
    config = (await nats.js.consumer_info(stream, "ocr")).config
    await nats.js.delete_consumer(stream, "ocr")
    config.max_deliver, config.ack_wait = 1, 0.1
    await nats.js.add_consumer(stream, config)
    await make_due(db)
    await OutboxRelay(db, nats, publisher).run_once()
    subscription = await nats.js.pull_subscribe_bind(consumer="ocr", stream=stream)
    await subscription.fetch(1, timeout=5)

    async def given_up() -> bool:
        return (await nats.js.consumer_info(stream, "ocr")).num_ack_pending == 0

    await until(given_up, what="the consumer to give the message up")
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    await asyncio.sleep(SETTINGS.ack_wait / 2)
    # Not `run_once`, which would give the consumer its ordinary number of deliveries again.
    assert await StreamReconciler(SETTINGS, db, nats, eager_publisher)._repair() == 1
    (message,) = await subscription.fetch(1, timeout=5)
    assert b'"epoch":2' in message.data
    assert await messages(nats) == 4
    await eager_publisher.close()


async def test_the_sweeper_clears_what_came_to_nothing_and_nothing_else(db: Database, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "objects", url_secret="s")
    store.prepare()
    source = tmp_path / "file"
    source.write_bytes(b"x")
    client = await make_client(db)
    kept, deleted = await make_image(db, client), await make_image(db, client)
    await Uploads(db).begin(client, image=uuid4(), object_key="c/late/original", ttl=timedelta(seconds=-1))
    await Uploads(db).begin(client, image=uuid4(), object_key="c/under-way/original", ttl=timedelta(minutes=9))
    gone = f"{client.uuid}/{deleted.uuid}"
    keep = [f"{client.uuid}/{kept.uuid}/original", "c/under-way/original", "stranger/unknown/original"]
    for key in (*keep, f"{gone}/original", f"{gone}/thumbnail", "c/late/original"):
        await store.put(key, source, content_type="image/png")
    await delete_image(db, client, deleted.id, headers={})
    sweeper = ObjectCleaner(db, store)
    # Each original, and the thumbnail beside it, whether or not it was made.
    assert await sweeper.run_once() == 4
    assert sorted([info.key async for info in store.list()]) == sorted(keep)
    async with db.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(upload_intents)) == 1
        waiting = await connection.scalar(sa.select(sa.func.count()).select_from(tombstones))
    assert waiting == 2, "the deleted image's objects are looked for once more, later"
    assert await sweeper.run_once() == 0


class Stubborn(LocalStore):
    """A store that won't delete some objects, as one with a lock on them."""

    def __init__(self, root: Path, held: str) -> None:
        super().__init__(root, url_secret="s")
        self.held = held
        self.asked: list[str] = []

    async def delete(self, key: str) -> None:
        self.asked.append(key)
        if self.held in key:
            raise StorageUnavailable("AccessDenied")
        await super().delete(key)


async def test_an_object_that_cant_be_deleted_keeps_no_other_from_it(db: Database, tmp_path: Path) -> None:
    store = Stubborn(tmp_path / "objects", held="held")
    store.prepare()
    # The oldest is asked for first, at every turn.
    async with db.write() as connection:
        await connection.execute(sa.insert(tombstones), [grave("c/held/original", 2), grave("c/other/original", 1)])
    assert await ObjectCleaner(db, store).run_once() == 1
    assert store.asked == ["c/held/original", "c/other/original"]
    async with db.read() as connection:
        (left,) = (await connection.execute(sa.select(tombstones.c.object_key, tombstones.c.due_at))).all()
    assert left.object_key == "c/held/original"
    assert left.due_at > utc_now(), "it is tried again later"


async def test_a_store_that_is_away_is_not_asked_for_every_object(db: Database, tmp_path: Path) -> None:
    store = Stubborn(tmp_path / "objects", held="/")
    store.prepare()
    async with db.write() as connection:
        await connection.execute(sa.insert(tombstones), [grave(f"c/{n}/original", n) for n in range(20)])
    assert await ObjectCleaner(db, store).run_once() == 0
    assert len(store.asked) == 3


def grave(key: str, minutes: int) -> dict[str, object]:
    due = utc_now() - timedelta(minutes=minutes)
    return {"object_key": key, "created_at": due, "due_at": due, "final_at": due}


async def test_a_chore_runs_in_one_process_at_a_time_and_moves_when_that_one_ends(db: Database) -> None:
    ran: list[str] = []

    def chore(name: str) -> PeriodicTask:
        async def run() -> int:
            ran.append(name)
            return 0

        return PeriodicTask("chore", 0.02, run)

    first, second = MaintenanceScheduler(db, (chore("first"),)), MaintenanceScheduler(db, (chore("second"),))
    await first.start()
    await until(_value(lambda: len(ran) > 2), what="the first to work")
    await second.start()
    await until(_value(lambda: len(ran) > 6), what="more work")
    assert set(ran) == {"first"}
    await first.close()
    await until(_value(lambda: "second" in ran), what="the second to take over")
    await second.close()


def _value(read):
    async def condition() -> bool:
        return bool(read())

    return condition
