"""`GET /images?q=` with queries whose words no image has, read by the text model of `make setup`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from imago.ai.offline.meaning.vectors import ensure_vectors
from imago.bootstrap.meaning import query_meaning
from imago.core.images.recognition.concepts import vocabulary
from imago.core.images.search.full_text import upsert_document
from imago.db.engine import Database, RowScope
from imago.db.tables import image_concepts
from imago.settings import Settings
from tests.integration.api.conftest import Api, Tenant, serve
from tests.support.samples import make_image

# From the oldest to the newest: the words of each image, and what is recognized in it.
IMAGES: dict[str, tuple[str, dict[str, float]]] = {
    "kitchen": ("a table", {"refrigerator": 0.9, "cat": 0.04}),
    "sofa": ("a sofa", {"cat": 0.95}),
    "garden": ("a lawn", {"cat": 0.6, "dog": 0.3}),
    "letter": ("the kitten is well", {}),
}


@pytest.fixture
async def api(sqlite_db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """A served API that searches by meaning."""
    models = ensure_vectors(None).parent.parent
    async with query_meaning(Settings(model_dir=models)) as meaning:
        served = await serve(sqlite_db, tmp_path / "objects", meaning=meaning)
        yield served
        await served.http.close()


@pytest.fixture
async def tenant(api: Api) -> Tenant:
    """A client with the images; another client has the same."""
    mine, other = await api.new_client(), await api.new_client("another")
    for owner in (mine, other):
        for name, (words, recognized) in IMAGES.items():
            await _store(api.services.db, owner, name, words, recognized)
    return mine


async def _store(db: Database, tenant: Tenant, name: str, words: str, recognized: dict[str, float]) -> None:
    image = await make_image(db, tenant.client, name=name)
    async with db.write(RowScope(tenant.client.id)) as connection:
        await upsert_document(connection, tenant.client.id, image.id, words)
        for concept, score in recognized.items():
            number = next(number for number, each in vocabulary().items() if each.english == concept)
            values = {"image_id": image.id, "client_id": tenant.client.id, "concept": number, "score": score}
            await connection.execute(sa.insert(image_concepts).values(values))


async def _pages(tenant: Tenant, q: str, **parameters: Any) -> list[list[tuple[str, str]]]:
    """Return name and match of the images of each page."""
    pages: list[list[tuple[str, str]]] = []
    cursor: dict[str, str] = {}
    while True:
        status, body = await tenant.call("GET", "/images", params={"q": q, **parameters, **cursor})
        assert status == 200, body
        pages.append([(item["original_name"], item["match"]) for item in body["items"]])
        if body["next_cursor"] is None:
            return pages
        cursor = {"cursor": body["next_cursor"]}


@pytest.mark.parametrize("query", ["feline pet", "un petit félin"])
async def test_a_query_finds_what_it_means_in_both_languages(tenant: Tenant, query: str) -> None:
    assert await _pages(tenant, query) == [[("sofa", "meaning"), ("garden", "meaning")]]


async def test_images_with_the_words_come_first_on_pages_of_any_size(tenant: Tenant) -> None:
    hits = [("letter", "text"), ("sofa", "meaning"), ("garden", "meaning")]
    for limit in (1, 2, 3):
        pages = await _pages(tenant, "kitten", limit=limit)
        assert [hit for page in pages for hit in page] == hits
        assert all(len(page) <= limit for page in pages)


async def test_nonsense_finds_nothing(tenant: Tenant) -> None:
    assert await _pages(tenant, "qzxwv plkjh") == [[]]


async def test_without_the_text_model_only_words_match(sqlite_db: Database, tmp_path: Path) -> None:
    served = await serve(sqlite_db, tmp_path / "objects")
    try:
        tenant = await served.new_client()
        await _store(sqlite_db, tenant, "sofa", "a sofa", {"cat": 0.95})
        assert (await _pages(tenant, "kitten"), await _pages(tenant, "sofa")) == ([[]], [[("sofa", "text")]])
    finally:
        await served.http.close()
