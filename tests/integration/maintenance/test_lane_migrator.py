"""The lane migrator moves the waiting work of a client to its new lane."""

from datetime import timedelta

import sqlalchemy as sa

from devtools.waiting import until
from imago.core.clients.audit import Actor
from imago.core.clients.changes import ClientPatch, patch_client
from imago.core.jobs import claims
from imago.core.jobs.lane_moves import count_left_behind
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import client_token
from imago.core.outbox.work_message import WorkMessage
from imago.db.engine import Database
from imago.db.tables import images
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.lane_migrator import LaneMigrator
from imago.nats.connection import NatsConnection
from imago.nats.streams import StreamOptions, ensure_streams
from tests.support.maintenance import count_located, count_messages
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage

ADMIN = Actor("admin")


async def test_waiting_work_moves_to_the_new_lane_and_claimed_work_after_its_release(
    db: Database, nats: NatsConnection, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    eager_publisher.publish_soon(image.outbox)

    async def published() -> bool:
        return await count_located(db, "standard") == 4

    await until(published, what="the work to be in the standard lane")
    async with db.read() as connection:
        uuid = await connection.scalar(sa.select(images.c.uuid))
    assert uuid is not None
    message = WorkMessage(image=uuid, client=client.uuid, stage=Stage.OCR, run=1, epoch=1)
    claimed = await claim_stage(db, message, lease=timedelta(minutes=1), max_tries=3, headers={})
    assert isinstance(claimed, claims.Claim)

    dedicated = client_token(client.uuid)
    await ensure_streams(nats.js, lanes=(dedicated,), options=StreamOptions())
    await patch_client(db, client.id, ClientPatch(lane="dedicated"), by=ADMIN)
    assert await count_left_behind(db, client.id) == 4
    migrator = LaneMigrator(db, eager_publisher)
    assert await migrator.run_once() == 3

    async def moved() -> bool:
        return await count_located(db, dedicated) == 3

    await until(moved, what="three stages to be in the dedicated lane")
    assert await count_messages(nats, dedicated) == 3
    assert await count_left_behind(db, client.id) == 1, "a worker has claimed one"
    assert await migrator.run_once() == 0

    await claims.release_claim(db, claimed)
    assert await migrator.run_once() == 1

    async def all_moved() -> bool:
        return await count_located(db, dedicated) == 4

    await until(all_moved, what="the last stage to be in the dedicated lane")
    assert await count_left_behind(db, client.id) == 0


async def test_unpublished_work_needs_no_migration(
    db: Database, nats: NatsConnection, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    await make_image(db, client)
    await patch_client(db, client.id, ClientPatch(lane="premium"), by=ADMIN)
    assert await count_left_behind(db, client.id) == 0, "a row of the outbox has no lane yet"
    assert await LaneMigrator(db, eager_publisher).run_once() == 0
