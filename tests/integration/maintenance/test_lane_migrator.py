"""A client that changes its lane takes its waiting work with it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.core.clients.audit import Actor
from imago.core.clients.changes import ClientPatch, patch_client
from imago.core.jobs import claims
from imago.core.jobs.lane_moves import count_left_behind
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import client_token
from imago.core.outbox.subjects import work_stream
from imago.core.outbox.work_message import WorkMessage
from imago.db.engine import Database
from imago.db.tables import image_stages, images
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.lane_migrator import LaneMigrator
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_streams
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage

ADMIN = Actor("admin")


@pytest.fixture
async def eager_publisher(db: Database, nats: NatsConnection) -> AsyncIterator[EagerPublisher]:
    await ensure_streams(nats.js, options=StreamOptions())
    background = EagerPublisher(db, Publisher(nats, timeout=5), by="test")
    await background.start()
    yield background
    await background.close()


async def messages(nats: NatsConnection, lane: str) -> int:
    return (await nats.js.stream_info(work_stream(lane))).state.messages


async def located(db: Database, lane: str) -> int:
    async with db.read() as connection:
        return (
            await connection.scalar(
                sa.select(sa.func.count())
                .select_from(image_stages)
                .where(image_stages.c.lane == lane, image_stages.c.sequence.is_not(None))
            )
            or 0
        )


async def test_waiting_work_moves_to_the_new_lane_and_what_is_held_stays_until_it_ends(
    db: Database, nats: NatsConnection, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    eager_publisher.publish_soon(image.outbox)

    async def published() -> bool:
        return await located(db, "standard") == 4

    await until(published, what="the work to be in the standard lane")
    async with db.read() as connection:
        uuid = await connection.scalar(sa.select(images.c.uuid))
    assert uuid is not None
    message = WorkMessage(image=uuid, client=client.uuid, stage=Stage.OCR, run=1, epoch=1)
    held = await claim_stage(db, message, lease=timedelta(minutes=1), max_tries=3, headers={})
    assert isinstance(held, claims.Claim)

    own = client_token(client.uuid)
    await ensure_streams(nats.js, lanes=(own,), options=StreamOptions())
    await patch_client(db, client.id, ClientPatch(lane="dedicated"), by=ADMIN)
    assert await count_left_behind(db, client.id) == 4
    mover = LaneMigrator(db, eager_publisher)
    assert await mover.run_once() == 3

    async def moved() -> bool:
        return await located(db, own) == 3

    await until(moved, what="three stages to be in the client's own lane")
    assert await messages(nats, own) == 3
    assert await count_left_behind(db, client.id) == 1, "a worker holds one"
    assert await mover.run_once() == 0

    await claims.release_claim(db, held)
    assert await mover.run_once() == 1

    async def all_moved() -> bool:
        return await located(db, own) == 4

    await until(all_moved, what="the last stage to follow")
    assert await count_left_behind(db, client.id) == 0


async def test_work_that_is_not_published_yet_takes_the_new_lane_by_itself(
    db: Database, nats: NatsConnection, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    await make_image(db, client)
    await patch_client(db, client.id, ClientPatch(lane="premium"), by=ADMIN)
    assert await count_left_behind(db, client.id) == 0, "what stands in the outbox is in no lane yet"
    assert await LaneMigrator(db, eager_publisher).run_once() == 0
