"""Search by words on both databases: scripts without spaces, letters without accents, and the newest images first."""

import importlib

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from imago.core.clients.model import Client
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.search.full_text import upsert_document
from imago.db.engine import SYSTEM, Database, RowScope
from imago.db.tables import images
from tests.support.reads import list_images
from tests.support.samples import make_client, make_image

TEXTS = {
    "tokyo": "私は東京に住んでいます",
    "kyoto": "京都の写真、そして東北",
    "beijing": "我在北京大学学习",
    "bangkok": "ฉันอยู่ที่กรุงเทพมหานคร",
    "seoul": "우리는 서울특별시에서 만났다",
    "coeur": "Mon cœur à Łódź",
    "sound": "Øresund, Straße, Ærø, Đà Nẵng, Ħamrun, ırmak",
    "plain": "A harbour in the evening",
}
QUERIES = {
    "東京": ["tokyo"],
    "京": ["beijing", "kyoto", "tokyo"],
    "東京都": [],
    "住んでいます": ["tokyo"],
    "京都 写真": ["kyoto"],
    "大学": ["beijing"],
    "กรุงเทพ": ["bangkok"],
    "เทพมหา": ["bangkok"],
    "서울": ["seoul"],
    "특별시": ["seoul"],
    "coeur": ["coeur"],
    "Cœur": ["coeur"],
    "lodz": ["coeur"],
    "oresund": ["sound"],
    "strasse aero da nang hamrun irmak": ["sound"],
    "harb": ["plain"],
    "evening harbour": ["plain"],
    "bour": [],
    "''' & | :*": [],
}


@pytest.fixture
async def client(db: Database) -> Client:
    """A client with an image of each text."""
    client = await make_client(db)
    for name, text in TEXTS.items():
        image = await make_image(db, client, name=name)
        async with db.write(RowScope(client.id)) as connection:
            await upsert_document(connection, client.id, image.id, text)
    return client


@pytest.mark.parametrize("query", QUERIES)
async def test_words_are_found(db: Database, client: Client, query: str) -> None:
    alone = await list_images(db, client.id, ImageFilter(q=query), limit=50)
    with_others = await list_images(db, client.id, ImageFilter(q=query, has_gps=False), limit=50)
    assert sorted(image.original_name for image in alone.items) == QUERIES[query]
    assert sorted(image.original_name for image in with_others.items) == QUERIES[query]


async def test_the_migration_indexes_documents_of_the_previous_release_again(db: Database) -> None:
    client = await make_client(db)
    japanese = await make_image(db, client, name="東京.jpg")
    described = await make_image(db, client, name="b.jpg")
    await make_image(db, client, name="plain harbour.jpg")
    async with db.write(SYSTEM) as connection:
        await connection.execute(
            sa.update(images).where(images.c.id == described.id).values(user_description="Mon cœur")
        )
        await connection.run_sync(_previous_index, {japanese.id: "東京 jpg", described.id: "mon cœur b jpg"})
        await connection.run_sync(_migrate)
    for query, name in {"京": "東京.jpg", "coeur": "b.jpg", "harbour": "plain harbour.jpg"}.items():
        found = await list_images(db, client.id, ImageFilter(q=query), limit=9)
        assert [image.original_name for image in found.items] == [name]


def _previous_index(connection: sa.Connection, documents: dict[int, str]) -> None:
    """Give images the documents that the previous release gave them."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(sa.text("SELECT client_id, image_id, document FROM image_search")).all()
        connection.execute(sa.text("DROP TABLE image_search"))
        columns = "document, client_id UNINDEXED, image_id UNINDEXED, tokenize = 'unicode61'"
        connection.execute(sa.text(f"CREATE VIRTUAL TABLE image_search USING fts5 ({columns})"))
        for client_id, image_id, document in rows:
            connection.execute(
                sa.text("INSERT INTO image_search (rowid, client_id, image_id, document) VALUES (:i, :c, :i, :d)"),
                {"i": image_id, "c": client_id, "d": documents.get(image_id, document)},
            )
        return
    update = sa.text("UPDATE image_search SET document = to_tsvector('simple', :d) WHERE image_id = :i")
    connection.execute(update, [{"i": image_id, "d": document} for image_id, document in documents.items()])


def _migrate(connection: sa.Connection) -> None:
    migration = importlib.import_module("imago.db.migrations.versions.0007_search_terms")
    with Operations.context(MigrationContext.configure(connection)):
        migration.upgrade()
