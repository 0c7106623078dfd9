"""PostgreSQL's row-level security rejects access to other clients' rows even if a query forgets its condition."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.errors import NotFound
from imago.core.images import queries as image_reads
from imago.core.images.changes import delete_image, reprocess, set_user_metadata
from imago.core.images.lists.filters import ImageFilter
from imago.db.engine import Database, RowScope
from imago.db.tables import (
    api_keys,
    audit_log,
    client_usage,
    clients,
    dead_letters,
    idempotency_keys,
    image_concepts,
    image_embeddings,
    image_features,
    image_stages,
    image_tags,
    images,
    metadata,
    outbox,
    reprocess_jobs,
    reprocess_runs,
    stage_results,
    tombstones,
    upload_intents,
)
from tests.support.forgetting import forgetting_the_client
from tests.support.reads import get_image, list_images
from tests.support.samples import make_client, make_image

# These tables hold no clients' data. `image_search` is not in the metadata (see `imago.core.images.search.full_text`).
UNPROTECTED = {"leases", "rate_limits", "search_reindexing"}


# SQLite has no row-level security.
pytestmark = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


async def test_every_table_with_clients_data_has_a_policy_that_binds_the_runtime_role(db: Database) -> None:
    async with db.read() as connection:
        role = (
            await connection.execute(
                sa.text("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
            )
        ).one()
        assert tuple(role) == (False, False)
        rows = await connection.execute(
            sa.text("SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relkind = 'r'")
        )
        protected: dict[str, bool] = {row[0]: row[1] for row in rows}
        owned = await connection.scalar(
            sa.text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user")
        )
    assert owned == 0, "the runtime role owns tables"
    unprotected = {name for name in metadata.tables if not protected[name]} - UNPROTECTED
    assert not unprotected, "a new table needs a policy in its migration, or a reason above"


async def test_without_a_row_scope_no_row_is_visible_or_writable(db: Database) -> None:
    client = await make_client(db)
    await make_image(db, client)
    async with db.engine.connect() as connection:
        for table in (clients, api_keys, images, image_stages, outbox, client_usage, audit_log):
            assert await connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0, table.name
        changed = await connection.execute(sa.update(images).values(original_name="taken"))
        assert changed.rowcount == 0
        with pytest.raises(sa.exc.DBAPIError, match="row-level security"):
            await connection.execute(sa.insert(client_usage).values(client_id=client.id))


async def test_a_client_sees_and_changes_only_its_own_rows(db: Database) -> None:
    mine, other = await make_client(db, "mine"), await make_client(db, "other")
    for client in (mine, other):
        await make_image(db, client)
    tables = (images, image_stages, outbox, client_usage, api_keys)
    async with db.write(RowScope(mine.id)) as connection:
        for table in tables:
            owners = set(await connection.scalars(sa.select(table.c.client_id)))
            assert owners == {mine.id}, table.name
        assert list(await connection.scalars(sa.select(clients.c.id))) == [mine.id]
        results = (image_tags, image_concepts, image_features, image_embeddings, stage_results, dead_letters)
        for table in (
            *results,
            idempotency_keys,
            upload_intents,
            audit_log,
            tombstones,
            reprocess_jobs,
            reprocess_runs,
        ):
            assert await connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0, table.name
        changed = await connection.execute(sa.update(images).values(original_name="taken"))
        assert changed.rowcount == 1
        deleted = await connection.execute(sa.delete(images))
        assert deleted.rowcount == 1
    async with db.read() as connection:
        assert await connection.scalar(sa.select(images.c.original_name)) == "photo.jpg"
    with pytest.raises(sa.exc.DBAPIError, match="row-level security"):
        async with db.write(RowScope(mine.id)) as connection:
            await connection.execute(
                sa.insert(upload_intents).values(
                    client_id=other.id,
                    image_uuid=uuid4(),
                    object_key="x",
                    created_at=sa.func.now(),
                    expires_at=sa.func.now(),
                )
            )


async def test_a_row_scope_ends_with_its_transaction(db: Database) -> None:
    client = await make_client(db)
    async with db.read(RowScope(client.id)) as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(clients)) == 1
    async with db.engine.connect() as connection:
        # The pool returns the same connection.
        assert await connection.scalar(sa.select(sa.func.count()).select_from(clients)) == 0


def _list(filter_: ImageFilter) -> "Read":
    async def read(db: Database, client: Client, _: int) -> Any:
        return (await list_images(db, client.id, filter_, limit=50)).items

    return read


Read = Callable[[Database, Client, int], Awaitable[Any]]

READS: dict[str, Read] = {
    "list": _list(ImageFilter()),
    "by sha256": _list(ImageFilter(sha256="ab" * 32)),
    "by tag": _list(ImageFilter(tags=("secret",))),
    "full text": _list(ImageFilter(q="photo")),
    "tags": lambda db, client, _: image_reads.list_tags(db, client.id, limit=50),
    "one": lambda db, client, image: get_image(db, client.id, image),
    "stages": lambda db, client, image: image_reads.get_stages(db, client.id, image),
}


@pytest.mark.parametrize("name", READS)
async def test_without_the_condition_on_the_client_a_read_still_returns_no_foreign_row(db: Database, name: str) -> None:
    mine, other = await make_client(db, "mine"), await make_client(db, "other")
    foreign = await make_image(db, other, sha256="ab" * 32)
    await set_user_metadata(db, other, foreign.id, tags=["secret"])
    own_view = await _outcome(READS[name], db, other, foreign.id)
    assert own_view, "the owner sees no row, so this test would prove nothing"
    with forgetting_the_client(db) as removed:
        assert not await _outcome(READS[name], db, mine, foreign.id)
    assert removed, "no condition was removed: the pattern no longer matches SQLAlchemy's SQL"


async def test_without_the_condition_on_the_client_a_write_still_changes_no_foreign_row(db: Database) -> None:
    mine, other = await make_client(db, "mine"), await make_client(db, "other")
    foreign = await make_image(db, other)
    with forgetting_the_client(db) as removed:
        for attempt in (
            delete_image(db, mine, foreign.id, headers={}),
            set_user_metadata(db, mine, foreign.id, tags=["mine"]),
            reprocess(db, mine, foreign.id, None, stages_off=frozenset(), headers={}),
        ):
            with pytest.raises(NotFound):
                await attempt
    assert removed
    async with db.read() as connection:
        row = (await connection.execute(sa.select(images))).one()
        runs = set(await connection.scalars(sa.select(image_stages.c.run)))
    assert (row.id, row.user_tags, runs) == (foreign.id, None, {1})


async def _outcome(read: Read, db: Database, client: Client, image: int) -> Any:
    try:
        return await read(db, client, image)
    except NotFound:
        return None
