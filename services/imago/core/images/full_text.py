"""Full text: `image_search`, a `tsvector` table on PostgreSQL and an FTS5 table on SQLite.

On PostgreSQL the table has no row-level security and is read for ids alone, because `@@` isn't leakproof: under RLS
its index would go unused. Its rows hold the client's id, and every query here names it.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.text_folding import folded_document, query_words
from imago.db.prepared import PreparedStatement

_SEARCH = sa.table(
    "image_search",
    sa.column("rowid"),
    sa.column("client_id", sa.BigInteger),
    sa.column("image_id", sa.BigInteger),
    sa.column("document"),
)

# How many of the newest images are looked through for a word before its index is asked: ten pages of them.
_WINDOW = 500

_DELETE_POSTGRES = PreparedStatement(sa.delete(_SEARCH).where(_SEARCH.c.image_id == sa.bindparam("image_id")))
# The only indexed lookup of an FTS5 table is by its rowid.
_DELETE_SQLITE = PreparedStatement(sa.delete(_SEARCH).where(_SEARCH.c.rowid == sa.bindparam("image_id")))
_INSERT_SQLITE = PreparedStatement(
    sa.text(
        "INSERT INTO image_search (rowid, client_id, image_id, document)"
        " VALUES (:image_id, :client_id, :image_id, :document)"
    )
)
# 'simple', because the text is folded already and belongs to no one language.
_UPSERT_POSTGRES = PreparedStatement(
    sa.text(
        "INSERT INTO image_search (client_id, image_id, document)"
        " VALUES (:client_id, :image_id, to_tsvector('simple', :document))"
        " ON CONFLICT (image_id) DO UPDATE SET document = excluded.document"
    )
)


async def upsert_document(connection: AsyncConnection, client_id: int, image_id: int, text: str) -> None:
    """Index the text of an image in place of its previous one."""
    values = {"client_id": client_id, "image_id": image_id, "document": folded_document(text)}
    if connection.dialect.name == "sqlite":
        # An FTS5 table has no unique key, hence no ON CONFLICT.
        await delete_document(connection, image_id)
        await _INSERT_SQLITE.execute(connection, values)
    else:
        await _UPSERT_POSTGRES.execute(connection, values)


def insert_documents(dialect: str, rows: sa.FromClause) -> sa.Insert:
    """Return the INSERT of new documents out of rows with `client_id`, `image_id` and the folded `document`."""
    columns = {"client_id": rows.c.client_id, "image_id": rows.c.image_id, "document": rows.c.document}
    if dialect == "sqlite":
        columns["rowid"] = rows.c.image_id
    else:
        columns["document"] = sa.func.to_tsvector(sa.literal_column("'simple'"), rows.c.document)
    return sa.insert(_SEARCH).from_select(list(columns), sa.select(*columns.values()))


async def delete_document(connection: AsyncConnection, image_id: int) -> None:
    """Remove an image from the index."""
    delete = _DELETE_SQLITE if connection.dialect.name == "sqlite" else _DELETE_POSTGRES
    await delete.execute(connection, {"image_id": image_id})


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
    return found.where(_matches(words))


def newest_matching(client_id: int, query: str, *, limit: int, before: int | None) -> sa.Select[tuple[int]] | None:
    """Return the same on PostgreSQL, newest first and no more than `limit`, below the id `before`.

    The index of words has no order: of a word that half a million images have it would give all of them, to be sorted
    for a page. So the newest images are looked through first, where a frequent word fills the page, and the index is
    asked only where they don't. Left to itself, the planner looks through everything where the images with a
    frequent word are the oldest.
    """
    words = query_words(query)
    if not words:
        return None
    mine = sa.select(_SEARCH.c.image_id, _SEARCH.c.document).where(_SEARCH.c.client_id == client_id)
    if before is not None:
        mine = mine.where(_SEARCH.c.image_id < before)
    window = mine.order_by(_SEARCH.c.image_id.desc()).limit(_WINDOW).cte("newest").prefix_with("MATERIALIZED")
    near = (
        sa.select(window.c.image_id)
        .where(_matches(words, "newest"))
        .order_by(window.c.image_id.desc())
        .limit(limit)
        .cte("near")
        .prefix_with("MATERIALIZED")
    )
    enough = sa.select(sa.func.count() >= limit).select_from(near).scalar_subquery()
    end = sa.select(sa.func.min(window.c.image_id)).scalar_subquery()
    # The index of words alone: added to nothing, the columns of the others can't tempt the planner, which takes every
    # word for a frequent one, to walk through all of the client's images or to mark all of them in a bitmap.
    far = (
        sa.select(_SEARCH.c.image_id)
        .where(~enough, _SEARCH.c.client_id + 0 == client_id, _SEARCH.c.image_id + 0 < end, _matches(words))
        .cte("far")
        .prefix_with("MATERIALIZED")
    )
    both = sa.union_all(sa.select(near.c.image_id), sa.select(far.c.image_id)).subquery("found")
    return sa.select(both.c.image_id.label("id")).order_by(both.c.image_id.desc()).limit(limit)


def _matches(words: tuple[str, ...], table: str = "image_search") -> sa.TextClause:
    match = " & ".join(words) + ":*"
    return sa.text(f"{table}.document @@ to_tsquery('simple', :words)").bindparams(words=match)
