"""Full-text search in `image_search`, a `tsvector` table on PostgreSQL and an FTS5 table on SQLite.

On PostgreSQL the table has no row-level security: `@@` is not leakproof, so its index would not be used. Every query
here has a condition on the client's id instead, and reads nothing but ids.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.search.terms import SearchTerm, document_terms, query_terms
from imago.db.prepared import PreparedStatement

# Characters; those of a page take a few milliseconds.
_LONG_TEXT = 10_000

_SEARCH = sa.table(
    "image_search",
    sa.column("rowid"),
    sa.column("client_id", sa.BigInteger),
    sa.column("image_id", sa.BigInteger),
    sa.column("document"),
)

# The number of newest images that are scanned for a word before its index is used: ten pages.
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
# Not `to_tsvector`, whose parser divides text by its own rules and of the database's locale.
_UPSERT_POSTGRES = PreparedStatement(
    sa.text(
        "INSERT INTO image_search (client_id, image_id, document)"
        " VALUES (:client_id, :image_id, array_to_tsvector(string_to_array(:document, ' ')))"
        " ON CONFLICT (image_id) DO UPDATE SET document = excluded.document"
    )
)


class WordMatch(Enum):
    """How the words of a query match those of an image."""

    ANY = "any"
    """Each is a word of the image; the last one may be the beginning of one."""
    WHOLE = "whole"
    """Each is a word of the image, in its singular or plural."""
    BEGINNING = "beginning"
    """As `ANY`, and not as `WHOLE`."""


async def upsert_document(connection: AsyncConnection, client_id: int, image_id: int, text: str) -> None:
    """Index the text of an image in place of its previous one."""
    # A long text takes up to 0.5 s of CPU, during which the event loop serves others.
    long = len(text) > _LONG_TEXT
    document = await asyncio.to_thread(document_terms, text) if long else document_terms(text)
    values = {"client_id": client_id, "image_id": image_id, "document": document}
    if connection.dialect.name == "sqlite":
        # An FTS5 table has no unique key, hence no ON CONFLICT.
        await delete_document(connection, image_id)
        await _INSERT_SQLITE.execute(connection, values)
    else:
        await _UPSERT_POSTGRES.execute(connection, values)


def insert_documents(dialect: str, rows: sa.FromClause) -> sa.Insert:
    """Return the INSERT of new documents out of rows with `client_id`, `image_id` and the terms in `document`."""
    columns: dict[str, sa.ColumnElement[Any]] = {
        "client_id": rows.c.client_id,
        "image_id": rows.c.image_id,
        "document": rows.c.document,
    }
    if dialect == "sqlite":
        columns["rowid"] = rows.c.image_id
    else:
        terms = sa.func.string_to_array(rows.c.document, sa.literal_column("' '"))
        columns["document"] = sa.func.array_to_tsvector(terms)
    return sa.insert(_SEARCH).from_select(list(columns), sa.select(*columns.values()))


async def delete_document(connection: AsyncConnection, image_id: int) -> None:
    """Remove an image from the index."""
    delete = _DELETE_SQLITE if connection.dialect.name == "sqlite" else _DELETE_POSTGRES
    await delete.execute(connection, {"image_id": image_id})


def matching_ids(
    dialect: str, client_id: int, query: str, match: WordMatch = WordMatch.ANY
) -> sa.Select[tuple[int]] | None:
    """Return the ids of a client's images that match all words of the query; None if no image can."""
    expression = _expression(_FTS5 if dialect == "sqlite" else _TSQUERY, query, match)
    if expression is None:
        return None
    ids = sa.select(_SEARCH.c.image_id).where(_SEARCH.c.client_id == client_id)
    if dialect == "sqlite":
        return ids.where(sa.text("image_search MATCH :terms").bindparams(terms=expression))
    return ids.where(_matches(expression))


def newest_matching(
    client_id: int, query: str, match: WordMatch, *, limit: int, before: int | None
) -> sa.Select[tuple[int]] | None:
    """Return the newest `limit` of these ids below the id `before`, on PostgreSQL.

    The index of words has no order: for a word in half a million images, all their ids would be read and sorted for one
    page. So the newest images are scanned first, where a frequent word fills the page; the index is used only if they
    don't. Without this, the planner scans everything if the images with a frequent word are the oldest.
    """
    expression = _expression(_TSQUERY, query, match)
    if expression is None:
        return None
    mine = sa.select(_SEARCH.c.image_id, _SEARCH.c.document).where(_SEARCH.c.client_id == client_id)
    if before is not None:
        mine = mine.where(_SEARCH.c.image_id < before)
    window = mine.order_by(_SEARCH.c.image_id.desc()).limit(_WINDOW).cte("newest").prefix_with("MATERIALIZED")
    near = (
        sa.select(window.c.image_id)
        .where(_matches(expression, "newest"))
        .order_by(window.c.image_id.desc())
        .limit(limit)
        .cte("near")
        .prefix_with("MATERIALIZED")
    )
    enough = sa.select(sa.func.count() >= limit).select_from(near).scalar_subquery()
    end = sa.select(sa.func.min(window.c.image_id)).scalar_subquery()
    # Adding 0 keeps the planner, which takes every word for a frequent one, from using the other columns' indexes: it
    # would walk through all of the client's images or mark all of them in a bitmap.
    far = (
        sa.select(_SEARCH.c.image_id)
        .where(~enough, _SEARCH.c.client_id + 0 == client_id, _SEARCH.c.image_id + 0 < end, _matches(expression))
        .cte("far")
        .prefix_with("MATERIALIZED")
    )
    both = sa.union_all(sa.select(near.c.image_id), sa.select(far.c.image_id)).subquery("found")
    return sa.select(both.c.image_id.label("id")).order_by(both.c.image_id.desc()).limit(limit)


@dataclass(frozen=True)
class _Syntax:
    """The operators of a search language. `word` and `beginning` are templates."""

    word: str
    beginning: str
    either: str
    both: str
    but_not: str


_TSQUERY = _Syntax("'{}'", "'{}':*", " | ", " & ", " & !")
_FTS5 = _Syntax('"{}"', '"{}"*', " OR ", " AND ", " NOT ")


def _expression(syntax: _Syntax, query: str, match: WordMatch) -> str | None:
    """Return a query in a search language; None if it can match nothing.

    Terms consist of letters, marks and digits only, so none is an operator of either language.
    """
    any_match = _all_of(syntax, query_terms(query))
    if match is WordMatch.ANY or any_match is None:
        return any_match
    whole = _all_of(syntax, query_terms(query, prefixes=False))
    if match is WordMatch.WHOLE:
        return whole
    return None if whole == any_match else f"({any_match}){syntax.but_not}({whole})"


def _all_of(syntax: _Syntax, terms: tuple[SearchTerm, ...]) -> str | None:
    return syntax.both.join(f"({_one_of(syntax, term)})" for term in terms) or None


def _one_of(syntax: _Syntax, term: SearchTerm) -> str:
    first = (syntax.beginning if term.prefix else syntax.word).format(term.text)
    # A word that begins with the term is found by it.
    others = [form for form in term.forms if not (term.prefix and form.startswith(term.text))]
    return syntax.either.join([first, *(syntax.word.format(form) for form in others)])


def _matches(expression: str, table: str = "image_search") -> sa.TextClause:
    return sa.text(f"{table}.document @@ CAST(CAST(:terms AS text) AS tsquery)").bindparams(terms=expression)
