"""The metrics collector exposes the state of the database and the streams."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from imago.core.clients.model import Client
from imago.core.jobs.stages import STAGES
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.db.tables import dead_letters, image_stages, images
from imago.maintenance.eager_publisher import publish_and_record
from imago.maintenance.metrics_collector import MetricsCollector
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_streams
from imago.telemetry import metrics
from tests.support.samples import make_client, make_image


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
def collector(db: Database, nats: NatsConnection) -> Iterator[MetricsCollector]:
    metrics.set_client_labels(["atelier"])
    metrics_collector = MetricsCollector(db, nats)
    yield metrics_collector
    metrics_collector.clear()
    metrics.set_client_labels([])


@pytest.fixture
async def client(db: Database) -> Client:
    return await make_client(db, "atelier", storage_bytes=4000)


async def test_queues_and_open_stages_are_exposed_by_stage_lane_and_client(
    db: Database, nats: NatsConnection, collector: MetricsCollector, client: Client
) -> None:
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=1))
    accepted = await make_image(db, client)
    await publish_and_record(db, Publisher(nats, timeout=5), accepted.outbox, by="test")
    async with db.write() as connection:
        published = utc_now() - timedelta(minutes=5)
        await connection.execute(sa.update(image_stages).values(published_at=published))
        await connection.execute(
            sa.update(image_stages).where(image_stages.c.stage == "ocr").values(due_at=utc_now() + timedelta(hours=1))
        )
    await collector.run_once()
    assert value("imago_queue_messages", stage="ocr", lane="standard", state="pending") == 1
    assert value("imago_queue_messages", stage="ocr", lane="premium", state="pending") == 0
    assert value("imago_open_stages", stage="exif", lane="standard", state="waiting") == 1
    assert value("imago_open_stages", stage="ocr", lane="standard", state="parked") == 1
    assert value("imago_client_open_stages", client="atelier") == 4
    assert value("imago_client_open_stages", client="other") == 0
    age = value("imago_queue_oldest_seconds", stage="exif", lane="standard")
    assert age is not None
    assert 300 <= age < 400
    assert value("imago_queue_oldest_seconds", stage="ocr", lane="standard") == 0, "a parked stage waits for no worker"
    assert value("imago_client_quota_used_ratio", client="atelier", quota="storage") == 0.25


async def test_a_process_that_lost_the_lease_exposes_nothing(db: Database, collector: MetricsCollector) -> None:
    await collector.run_once()
    assert value("imago_open_stages", stage="exif", lane="standard", state="waiting") == 0
    collector.clear()
    assert value("imago_open_stages", stage="exif", lane="standard", state="waiting") is None


async def test_an_ended_image_is_counted_once_and_a_reprocessed_one_never(
    db: Database, collector: MetricsCollector, client: Client
) -> None:
    first, reprocessed = await make_image(db, client), await make_image(db, client)
    labels = {"client": "atelier", "status": "done"}
    before = value("imago_images_done_total", **labels) or 0.0
    await collector.run_once()
    # As if the previous run had been a minute ago.
    collector._ended_until = utc_now() - timedelta(minutes=1)
    async with db.write() as connection:
        ended = utc_now() - timedelta(seconds=10)
        await connection.execute(
            sa.update(images).values(status="done", done_at=ended, created_at=ended - timedelta(seconds=3))
        )
        await connection.execute(
            sa.update(image_stages)
            .where(image_stages.c.image_id == reprocessed.id, image_stages.c.stage == STAGES[0])
            .values(run=2)
        )
    assert first.id != reprocessed.id
    assert await collector.run_once() == 1
    assert await collector.run_once() == 0
    assert value("imago_images_done_total", **labels) == before + 1
    assert value("imago_image_done_seconds_bucket", lane="standard", client="atelier", le="5.0") == before + 1


async def test_dead_letters_of_the_last_hour_are_exposed_until_they_are_replayed(
    db: Database, collector: MetricsCollector, client: Client
) -> None:
    accepted = await make_image(db, client)
    letter = {
        "client_id": client.id,
        "image_id": accepted.id,
        "run": 1,
        "lane": "standard",
        "attempts": 3,
        "error_code": "stage-timeout",
        "error_text": "too slow",
    }
    labels = {"stage": "ocr", "error_code": "stage-timeout", "client": "atelier"}
    async with db.write() as connection:
        for stage, age in (("ocr", 10), ("vision", 3700)):
            created = utc_now() - timedelta(seconds=age)
            await connection.execute(sa.insert(dead_letters).values(**letter, stage=stage, created_at=created))
    await collector.run_once()
    assert value("imago_dead_letters_last_hour", **labels) == 1
    assert value("imago_dead_letters_last_hour", **{**labels, "stage": "vision"}) is None, "older than an hour"
    async with db.write() as connection:
        await connection.execute(sa.update(dead_letters).values(replayed_at=utc_now()))
    await collector.run_once()
    assert value("imago_dead_letters_last_hour", **labels) is None
