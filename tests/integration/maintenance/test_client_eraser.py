"""The client eraser deletes a client's rows, objects and messages, keeps the report, and touches no other client."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.core import erasure
from imago.core.clients.audit import Actor, AuditAction, AuditFilter, list_records
from imago.core.clients.changes import ClientPatch, patch_client
from imago.core.clients.model import Client
from imago.core.clients.queries import get_client_row
from imago.core.images.model import original_key
from imago.core.lanes.model import client_token
from imago.core.outbox.subjects import client_event_subjects, work_stream
from imago.core.times import utc_now
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.db.tables import images, metadata, outbox, tombstones
from imago.maintenance.client_eraser import ClientEraser
from imago.maintenance.object_cleaner import ObjectCleaner
from imago.maintenance.outbox_relay import OutboxRelay
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_streams, existing_lanes
from imago.objects.local import LocalStore
from tests.support.samples import make_client, make_image

ADMIN = Actor("admin", "request-1")


@pytest.fixture
async def store(tmp_path: Path) -> LocalStore:
    local = LocalStore(tmp_path / "objects", url_secret="secret")
    local.prepare()
    return local


async def with_images(db: Database, store: LocalStore, count: int) -> Client:
    """Create a client whose images have stored originals and thumbnails."""
    client = await make_client(db, images=100)
    for _ in range(count):
        await make_image(db, client)
    async with db.read() as connection:
        keys = list(await connection.scalars(sa.select(images.c.object_key).where(images.c.client_id == client.id)))
    for key in keys:
        for name in (key, key.replace("/original", "/thumbnail")):
            store.path(name).parent.mkdir(parents=True, exist_ok=True)
            store.path(name).write_bytes(b"bytes")
    return client


def objects(store: LocalStore, client: Client) -> int:
    folder = store.path(f"{client.uuid}/x").parent
    return sum(path.is_file() for path in folder.rglob("*")) if folder.exists() else 0


async def messages(nats: NatsConnection, client: Client) -> int:
    info = await nats.js.stream_info("IMAGO_EVENTS", subjects_filter=client_event_subjects(client.uuid))
    return sum((info.state.subjects or {}).values())


async def test_an_erased_client_leaves_only_its_report(db: Database, nats: NatsConnection, store: LocalStore) -> None:
    await ensure_streams(nats.js, options=StreamOptions())
    erased, kept = await with_images(db, store, 5), await with_images(db, store, 2)
    dedicated = client_token(erased.uuid)
    await ensure_streams(nats.js, lanes=(dedicated,), options=StreamOptions())
    await patch_client(db, erased.id, ClientPatch(lane="dedicated"), by=ADMIN)
    await publish_all(db, nats)
    assert await messages(nats, erased) == 5
    await begin_upload(db, erased)

    await erasure.request_erasure(db, erased.uuid, by=ADMIN)
    row = await get_client_row(db, erased.id)
    assert row is not None
    assert (row.client.active, row.erasure and row.erasure["images_total"]) == (False, 5)
    eraser, cleaner = ClientEraser(db, nats), ObjectCleaner(db, store)
    assert await eraser.run_once() == 0, "its objects are still stored"
    row = await get_client_row(db, erased.id)
    assert row is not None
    assert row.erasure is not None
    assert (row.erasure["images_erased"], row.erasure["objects_left"]) == (5, 12)

    await cleaner.run_once()
    assert objects(store, erased) == 0
    assert await eraser.run_once() == 1
    assert await get_client_row(db, erased.uuid) is None
    assert await messages(nats, erased) == 0
    assert dedicated not in await existing_lanes(nats.js)
    async with db.read() as connection:
        for table in metadata.tables.values():
            if "client_id" in table.c:
                left = await connection.scalar(sa.select(sa.func.count()).where(table.c.client_id == erased.id))
                assert left == 0, table.name
        remaining = list(await connection.scalars(sa.select(tombstones.c.object_key)))
    assert all(key.startswith(str(erased.uuid)) for key in remaining), (
        "tombstones are kept for thumbnails that workers store later"
    )

    records, _ = await list_records(db, AuditFilter(client=erased.uuid), limit=10)
    assert [record.action for record in records][:2] == [AuditAction.CLIENT_ERASED, AuditAction.ERASURE_REQUESTED]
    assert records[0].details["images_erased"] == 5
    assert records[0].details["messages"] >= 5

    assert objects(store, kept) == 4
    assert await messages(nats, kept) == 2
    assert (await nats.js.stream_info(work_stream("standard"))).state.messages > 0


async def test_an_upload_in_progress_leaves_no_image_and_no_object(
    db: Database, nats: NatsConnection, store: LocalStore
) -> None:
    await ensure_streams(nats.js, options=StreamOptions())
    client = await make_client(db)
    await begin_upload(db, client)
    await erasure.request_erasure(db, client.id, by=ADMIN)
    eraser, cleaner = ClientEraser(db, nats), ObjectCleaner(db, store)
    assert await eraser.run_once() == 0
    await cleaner.run_once()
    assert await eraser.run_once() == 1


async def test_a_repeated_request_starts_one_erasure(db: Database) -> None:
    client = await make_client(db)
    await erasure.request_erasure(db, client.id, by=ADMIN)
    await erasure.request_erasure(db, client.id, by=ADMIN)
    records, _ = await list_records(db, AuditFilter(client=client.uuid, action=AuditAction.ERASURE_REQUESTED), limit=10)
    assert len(records) == 1


async def begin_upload(db: Database, client: Client) -> int:
    image = uuid4()
    key = original_key("", client.uuid, image)
    return await Uploads(db).begin(client, image=image, object_key=key, ttl=timedelta(minutes=20))


async def publish_all(db: Database, nats: NatsConnection) -> None:
    """Publish all rows of the outbox."""
    relay = OutboxRelay(db, nats, Publisher(nats, timeout=5))

    async def empty() -> bool:
        async with db.write() as connection:
            await connection.execute(sa.update(outbox).values(due_at=utc_now() - timedelta(seconds=1)))
            left = await connection.scalar(sa.select(sa.func.count()).select_from(outbox))
        if left:
            await relay.run_once()
        return not left

    await until(empty, what="the outbox to be empty")
