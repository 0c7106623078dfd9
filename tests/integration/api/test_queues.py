"""An administrator sees how much work waits in each lane and stage, and of which clients."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.jobs.claims import Claim
from imago.core.jobs.queues import queue_states
from imago.core.jobs.stages import STAGES, Stage
from imago.core.outbox.work_message import WorkMessage
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.db.tables import image_stages
from tests.integration.api.conftest import Api, Tenant
from tests.support.images import encoded
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage

LEASE = timedelta(seconds=30)


async def claim(db: Database, client: Client, image: UUID, stage: Stage) -> None:
    claimed = await claim_stage(db, WorkMessage(image, client.uuid, stage, 1, 1), lease=LEASE, max_tries=3)
    assert isinstance(claimed, Claim)


async def update(db: Database, *conditions: Any, **values: Any) -> None:
    async with db.write() as connection:
        await connection.execute(sa.update(image_stages).where(*conditions).values(values))


async def test_queues_count_open_and_running_runs_and_the_oldest_wait(db: Database) -> None:
    few, many = await make_client(db, "few"), await make_client(db, "many")
    image = await make_image(db, few)
    others = [await make_image(db, many) for _ in range(3)]
    now = utc_now()
    await update(db, published_at=now - timedelta(seconds=20))
    await update(db, image_stages.c.client_id == few.id, published_at=now - timedelta(seconds=50))
    await claim(db, few, image.uuid, Stage.OCR)
    parked = (image_stages.c.image_id == others[0].id, image_stages.c.stage == Stage.OCR)
    await update(db, *parked, due_at=now + timedelta(hours=1), published_at=now - timedelta(hours=1))
    ocr = {queue.stage: queue for queue in await queue_states(db, now=now, most_clients=10)}[Stage.OCR]
    assert (ocr.lane, ocr.open, ocr.running) == ("standard", 4, 1)
    assert ocr.oldest == now - timedelta(seconds=20), "of the runs that are neither in progress nor parked"
    assert [(each.name, each.open, each.running) for each in ocr.clients] == [("many", 3, 0), ("few", 1, 1)]


async def test_a_run_whose_worker_died_waits_again(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await claim(db, client, image.uuid, Stage.OCR)
    now = utc_now() + 2 * LEASE
    ocr = {queue.stage: queue for queue in await queue_states(db, now=now, most_clients=10)}[Stage.OCR]
    assert (ocr.open, ocr.running) == (1, 0)


async def test_only_the_clients_with_the_most_work_are_listed(db: Database) -> None:
    for number in range(3):
        client = await make_client(db, str(number))
        for _ in range(number + 1):
            await make_image(db, client)
    for queue in await queue_states(db, now=utc_now(), most_clients=2):
        assert queue.open == 6
        assert [each.name for each in queue.clients] == ["2", "1"]


async def test_the_queues_are_for_administrators(api: Api, tenant: Tenant) -> None:
    assert (await api.call("GET", "/admin/queues")) == (200, {"items": []})
    await tenant.upload(encoded())
    status, body = await api.call("GET", "/admin/queues")
    assert status == 200
    assert {item["stage"] for item in body["items"]} <= set(STAGES)
    assert {item["clients"][0]["client"] for item in body["items"]} == {str(tenant.client.uuid)}
    assert (await tenant.call("GET", "/admin/queues"))[0] == 403
