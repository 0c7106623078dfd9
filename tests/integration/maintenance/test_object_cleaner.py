"""The object cleaner deletes objects with a tombstone, and expired rows."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from imago.core.images.changes import delete_image
from imago.core.times import utc_now
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.db.tables import tombstones, upload_intents
from imago.maintenance.object_cleaner import ObjectCleaner
from imago.objects.local import LocalStore
from imago.objects.store import StorageUnavailable
from tests.support.samples import make_client, make_image


def tombstone(key: str, minutes: int) -> dict[str, object]:
    due = utc_now() - timedelta(minutes=minutes)
    return {"object_key": key, "created_at": due, "due_at": due, "final_at": due}


async def test_only_objects_of_abandoned_uploads_and_deleted_images_are_deleted(db: Database, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "objects", url_secret="s")
    store.prepare()
    source = tmp_path / "file"
    source.write_bytes(b"x")
    client = await make_client(db)
    kept, deleted = await make_image(db, client), await make_image(db, client)
    await Uploads(db).begin(client, image=uuid4(), object_key="c/abandoned/original", ttl=timedelta(seconds=-1))
    await Uploads(db).begin(client, image=uuid4(), object_key="c/in-progress/original", ttl=timedelta(minutes=9))
    folder = f"{client.uuid}/{deleted.uuid}"
    keep = [f"{client.uuid}/{kept.uuid}/original", "c/in-progress/original", "other/unknown/original"]
    for key in (*keep, f"{folder}/original", f"{folder}/thumbnail", "c/abandoned/original"):
        await store.put(key, source, content_type="image/png")
    await delete_image(db, client, deleted.id, headers={})
    cleaner = ObjectCleaner(db, store)
    # The original and the thumbnail of each, whether or not the thumbnail exists.
    assert await cleaner.run_once() == 4
    assert sorted([info.key async for info in store.list()]) == sorted(keep)
    async with db.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(upload_intents)) == 1
        remaining = await connection.scalar(sa.select(sa.func.count()).select_from(tombstones))
    assert remaining == 2, "the objects of the deleted image will be deleted once more"
    assert await cleaner.run_once() == 0


class LockedStore(LocalStore):
    """A store that rejects the deletion of some objects, as if they had an object lock."""

    def __init__(self, root: Path, locked: str) -> None:
        super().__init__(root, url_secret="s")
        self.locked = locked
        self.calls: list[str] = []

    async def delete(self, key: str) -> None:
        self.calls.append(key)
        if self.locked in key:
            raise StorageUnavailable("AccessDenied")
        await super().delete(key)


async def test_an_object_that_can_not_be_deleted_does_not_block_the_others(db: Database, tmp_path: Path) -> None:
    store = LockedStore(tmp_path / "objects", locked="locked")
    store.prepare()
    # Every run begins with the oldest tombstone.
    async with db.write() as connection:
        await connection.execute(
            sa.insert(tombstones), [tombstone("c/locked/original", 2), tombstone("c/other/original", 1)]
        )
    assert await ObjectCleaner(db, store).run_once() == 1
    assert store.calls == ["c/locked/original", "c/other/original"]
    async with db.read() as connection:
        (left,) = (await connection.execute(sa.select(tombstones.c.object_key, tombstones.c.due_at))).all()
    assert left.object_key == "c/locked/original"
    assert left.due_at > utc_now(), "its deletion is retried later"


async def test_an_unavailable_store_is_not_called_for_every_object(db: Database, tmp_path: Path) -> None:
    store = LockedStore(tmp_path / "objects", locked="/")
    store.prepare()
    async with db.write() as connection:
        await connection.execute(sa.insert(tombstones), [tombstone(f"c/{n}/original", n) for n in range(20)])
    assert await ObjectCleaner(db, store).run_once() == 0
    assert len(store.calls) == 3
