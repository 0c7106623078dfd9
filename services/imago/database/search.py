"""Full text: `image_search`, a `tsvector` table on PostgreSQL and an FTS5 table on SQLite.

On PostgreSQL the table has no row-level security and is read for ids alone, because `@@` isn't leakproof: under RLS
its index would go unused. Its rows hold the client's id, and every query here names it.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.domain.search import document, query_words

_SEARCH = sa.table(
    "image_search", sa.column("rowid"), sa.column("client_id"), sa.column("image_id"), sa.column("document")
)


async def upsert_document(connection: AsyncConnection, client_id: int, image_id: int, text: str) -> None:
    """Index the text of an image, in place of what was indexed before."""
    values = {"client_id": client_id, "image_id": image_id, "document": document(text)}
    if connection.dialect.name == "sqlite":
        await delete_document(connection, image_id)
        statement = (
            "INSERT INTO image_search (rowid, client_id, image_id, document)"
            " VALUES (:image_id, :client_id, :image_id, :document)"
        )
    else:
        # The text is folded already, so no dictionary of any language touches it.
        statement = (
            "INSERT INTO image_search (client_id, image_id, document)"
            " VALUES (:client_id, :image_id, to_tsvector('simple', :document))"
            " ON CONFLICT (image_id) DO UPDATE SET document = excluded.document"
        )
    await connection.execute(sa.text(statement), values)


async def delete_document(connection: AsyncConnection, image_id: int) -> None:
    """Forget the text of an image."""
    # FTS5 finds a row quickly by its rowid alone.
    column = _SEARCH.c.rowid if connection.dialect.name == "sqlite" else _SEARCH.c.image_id
    await connection.execute(sa.delete(_SEARCH).where(column == image_id))


def matching_ids(dialect: str, client_id: int, query: str) -> sa.Select[tuple[int]] | None:
    """Return the ids of a client's images that have all words of the query; None where the query has no word.

    Words hold letters and digits alone, so none of them is an operator of either search language.
    """
    words = query_words(query)
    if not words:
        return None
    found = sa.select(_SEARCH.c.image_id).where(_SEARCH.c.client_id == client_id)
    if dialect == "sqlite":
        match = " ".join(f'"{word}"' for word in words) + "*"
        return found.where(sa.text("image_search MATCH :words").bindparams(words=match))
    match = " & ".join(words) + ":*"
    return found.where(sa.text("image_search.document @@ to_tsquery('simple', :words)").bindparams(words=match))
