"""The storage auditor reports differences between the store and the database, and changes neither."""

import os
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.images.changes import delete_image
from imago.core.images.model import original_key
from imago.core.uploads.model import AcceptedImage
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.db.tables import images
from imago.maintenance.object_cleaner import ObjectCleaner
from imago.maintenance.storage_auditor import Findings, StorageAuditor
from imago.objects.local import LocalStore
from imago.settings import Settings
from tests.support.samples import make_client, make_image

SETTINGS = Settings()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    local = LocalStore(tmp_path / "objects", url_secret="s")
    local.prepare()
    return local


def write(store: LocalStore, key: str, *, age: timedelta = timedelta(hours=1)) -> None:
    """Store an object with the modification time of `age` ago."""
    path = store.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    modified = path.stat().st_mtime - age.total_seconds()
    os.utime(path, (modified, modified))


async def stored_image(db: Database, store: LocalStore, client: Client, *, thumbnail: bool = True) -> AcceptedImage:
    image = await make_image(db, client)
    folder = f"{client.uuid}/{image.uuid}"
    write(store, f"{folder}/original")
    if thumbnail:
        write(store, f"{folder}/thumbnail")
        async with db.write() as connection:
            await connection.execute(
                sa.update(images).where(images.c.id == image.id).values(thumbnail_key=f"{folder}/thumbnail")
            )
    return image


def files(store: LocalStore) -> set[str]:
    root = store.path("x").parent
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


async def compare(db: Database, store: LocalStore) -> Findings:
    return await StorageAuditor(SETTINGS, db, store).compare()


async def test_a_consistent_installation_has_no_differences(db: Database, store: LocalStore) -> None:
    for name in ("one", "two", "three"):
        client = await make_client(db, name)
        for index in range(5):
            await stored_image(db, store, client, thumbnail=index % 2 == 0)
    findings = await compare(db, store)
    assert (findings.unknown, findings.missing, findings.objects) == (0, 0, 24)


async def test_missing_and_unknown_objects_are_distinguished(db: Database, store: LocalStore) -> None:
    client = await make_client(db)
    stored = [await stored_image(db, store, client) for _ in range(4)]
    lost = f"{client.uuid}/{stored[1].uuid}/original"
    store.path(lost).unlink()
    unknown = f"{uuid4()}/{uuid4()}/original"
    write(store, unknown)
    before = files(store)
    findings = await compare(db, store)
    assert (findings.missing_samples, findings.unknown_samples) == ([lost], [unknown])
    assert (findings.missing, findings.unknown, findings.unknown_bytes) == (1, 1, 1)
    assert await compare(db, store) == findings, "a second audit has the same result"
    assert files(store) == before, "nothing is deleted"


async def test_restoring_an_older_database_deletes_no_newer_object(db: Database, store: LocalStore) -> None:
    # As after restoring a backup: the rows of newer images are missing, and their objects exist.
    client = await make_client(db)
    old = await stored_image(db, store, client)
    newer = [await stored_image(db, store, client) for _ in range(3)]
    async with db.write() as connection:
        await connection.execute(sa.delete(images).where(images.c.id.in_([image.id for image in newer])))
    before = files(store)
    for _ in range(2):
        await ObjectCleaner(db, store).run_once()
    findings = await compare(db, store)
    assert (findings.unknown, findings.missing) == (6, 0)
    assert files(store) == before
    assert f"{client.uuid}/{old.uuid}/original" in before


async def test_new_objects_and_those_of_uploads_and_tombstones_are_not_unknown(db: Database, store: LocalStore) -> None:
    client = await make_client(db)
    in_progress = uuid4()
    key = original_key("", client.uuid, in_progress)
    await Uploads(db).begin(client, image=in_progress, object_key=key, ttl=timedelta(minutes=20))
    write(store, key)
    deleted = await stored_image(db, store, client)
    await delete_image(db, client, deleted.id, headers={})
    write(store, f"{client.uuid}/{uuid4()}/original", age=timedelta(0))
    # A worker stores a thumbnail before it commits the row.
    working = await stored_image(db, store, client, thumbnail=False)
    write(store, f"{client.uuid}/{working.uuid}/thumbnail")
    findings = await compare(db, store)
    assert (findings.unknown, findings.missing) == (0, 0), findings


async def test_an_image_stored_under_another_prefix_is_found(db: Database, store: LocalStore) -> None:
    client = await make_client(db)
    image = await stored_image(db, store, client, thumbnail=False)
    old_key = f"old-prefix/{client.uuid}/{image.uuid}/original"
    write(store, old_key)
    store.path(f"{client.uuid}/{image.uuid}/original").unlink()
    async with db.write() as connection:
        await connection.execute(sa.update(images).where(images.c.id == image.id).values(object_key=old_key))
    findings = await compare(db, store)
    assert (findings.unknown, findings.missing) == (0, 0), findings
