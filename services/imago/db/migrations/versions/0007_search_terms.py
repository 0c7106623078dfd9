"""Search terms of scripts without spaces, and of letters such as œ, ł and ø.

Documents with other than ASCII characters are indexed again. The FTS5 table gets the tokenizer that divides text at
ASCII characters only, because spaces separate the terms in it already.
"""

from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from alembic import op

# The index must have the terms that the queries of this version look for, so this function is not copied here.
from imago.core.images.search.terms import document_terms

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BATCH = 500

IMAGES = sa.table(
    "images", sa.column("id"), sa.column("client_id"), sa.column("original_name"), sa.column("user_description")
)
RESULTS = sa.table(
    "stage_results", sa.column("image_id"), sa.column("stage"), sa.column("run"), sa.column("data", sa.JSON)
)


INSERT = sa.text(
    "INSERT INTO image_search (rowid, client_id, image_id, document)"
    " VALUES (:image_id, :client_id, :image_id, :document)"
)
# In this order the newest images, whose stages may be running, are locked for the shortest time.
OTHERS = sa.text("SELECT image_id FROM image_search WHERE document::text ~ '[^\\x01-\\x7f]' ORDER BY image_id")
# A stage that ends meanwhile waits, and then stores the document with its own result.
LOCK = sa.text("SELECT 1 FROM image_search WHERE image_id = ANY(:ids) ORDER BY image_id FOR UPDATE")
UPDATE = sa.text(
    "UPDATE image_search SET document = array_to_tsvector(string_to_array(:document, ' ')) WHERE image_id = :image_id"
)


def upgrade() -> None:
    """Create the new FTS5 table, and index the documents with other than ASCII characters again."""
    connection = op.get_bind()
    on_sqlite = connection.dialect.name == "sqlite"
    ids = _recreate_table(connection) if on_sqlite else list(connection.scalars(OTHERS))
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        if not on_sqlite:
            connection.execute(LOCK, {"ids": batch})
        documents = list(_documents(connection, batch))
        if documents:
            connection.execute(INSERT if on_sqlite else UPDATE, documents)


def _recreate_table(connection: sa.Connection) -> list[int]:
    """Create the table again with its ASCII documents; return the images of the others."""
    op.execute("ALTER TABLE image_search RENAME TO image_search_before")
    op.execute(
        "CREATE VIRTUAL TABLE image_search USING fts5"
        " (document, client_id UNINDEXED, image_id UNINDEXED, tokenize = 'ascii')"
    )
    columns = ["rowid", "client_id", "image_id", "document"]
    before, after = (sa.table(name, *map(sa.column, columns)) for name in ("image_search_before", "image_search"))
    others = before.c.document.op("GLOB")(f"*[^{chr(1)}-{chr(127)}]*")
    ascii_only = sa.select(*before.c).where(sa.not_(others))
    connection.execute(sa.insert(after).from_select(columns, ascii_only))
    ids = list(connection.scalars(sa.select(before.c.image_id).where(others)))
    op.execute("DROP TABLE image_search_before")
    return ids


def _documents(connection: sa.Connection, ids: list[int]) -> Iterator[dict[str, object]]:
    results: dict[int, dict[str, dict[str, object]]] = {}
    of_these = RESULTS.c.image_id.in_(ids) & RESULTS.c.stage.in_(("ocr", "vision"))
    for row in connection.execute(sa.select(RESULTS).where(of_these).order_by(RESULTS.c.run)):
        results.setdefault(row.image_id, {})[row.stage] = row.data
    for image in connection.execute(sa.select(IMAGES).where(IMAGES.c.id.in_(ids))):
        of_image = results.get(image.id, {})
        texts = (
            image.original_name,
            image.user_description,
            _text(of_image.get("vision"), "description"),
            # The text is last: it may be longer than what is indexed.
            _text(of_image.get("ocr", {}).get("chosen"), "text"),
        )
        yield {"image_id": image.id, "client_id": image.client_id, "document": document_terms(_joined(texts))}


def _text(value: object, name: str) -> str | None:
    text = value.get(name) if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _joined(texts: Iterable[str | None]) -> str:
    return "\n".join(text for text in texts if text)
