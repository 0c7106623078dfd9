"""Search: a page of a client's images that match `q` and all filters, the most relevant first.

First come images that have the words of the query, then those with words that begin so, the newest of each first; then
those whose embedding or whose recognized concepts are near the query's meaning.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients.model import Usage
from imago.core.clients.queries import read_usage
from imago.core.images.lists.filters import ImageFilter, page_ids
from imago.core.images.queries import ImageRow, rows_by_id
from imago.core.images.search.embedded import hits_by_embedding
from imago.core.images.search.full_text import WordMatch
from imago.core.images.search.meaning import ids_by_meaning
from imago.core.images.search.query_embedding import QueryEmbedding
from imago.core.images.search.query_meaning import QueryMeaning
from imago.db.engine import Database, RowScope


class Tier(IntEnum):
    """How an image matches a query, the most relevant first. Cursors have these numbers."""

    WORDS = 0
    BEGINNINGS = 1
    MEANING = 2


class Hit(NamedTuple):
    """An image that matches a query. Hits are ordered by tier, then by descending `score` and `image_id`."""

    tier: Tier
    score: int
    image_id: int


@dataclass(frozen=True)
class SearchPage:
    """A page of a search: images, how each of them matches, the last hit (None at the end), and the client's usage."""

    items: tuple[ImageRow, ...]
    hits: tuple[Hit, ...]
    next_after: Hit | None
    usage: Usage


_WORD_MATCHES = {Tier.WORDS: WordMatch.WHOLE, Tier.BEGINNINGS: WordMatch.BEGINNING}


class ImageSearch:
    """Searches images by words, with `meaning` also by their concepts, and with `embedding` by their embeddings."""

    def __init__(
        self, db: Database, meaning: QueryMeaning | None = None, embedding: QueryEmbedding | None = None
    ) -> None:
        self._db = db
        self._meaning = meaning
        self._embedding = embedding

    async def page(self, client_id: int, filters: ImageFilter, *, limit: int, after: Hit | None = None) -> SearchPage:
        """Return the page of a client's images behind the hit `after`. `filters.q` is the query."""
        wanted = limit + 1
        # Not batched: other requests should not wait for a search.
        async with self._db.read(RowScope(client_id)) as connection:
            hits = await _hits_by_words(connection, client_id, filters, limit=wanted, after=after)
            if len(hits) == wanted or (self._meaning is None and self._embedding is None):
                return await _page(connection, client_id, hits, limit=limit)
        hits += await self._hits_by_meaning(client_id, filters, limit=wanted - len(hits), after=after)
        async with self._db.read(RowScope(client_id)) as connection:
            return await _page(connection, client_id, hits, limit=limit)

    async def _hits_by_meaning(
        self, client_id: int, filters: ImageFilter, *, limit: int, after: Hit | None
    ) -> list[Hit]:
        """Return hits by the embeddings of images that have one of this model, and by the concepts of the others."""
        behind = (after.score, after.image_id) if after is not None and after.tier is Tier.MEANING else None
        text = filters.q or ""
        # Without a connection, which others could use meanwhile.
        vector = await self._embedding.vector(text, client_id=client_id) if self._embedding else None
        concepts = await self._meaning.concepts(text, client_id=client_id) if self._meaning else ()
        found: list[tuple[int, int]] = []
        if vector is not None:
            found += await hits_by_embedding(self._db, client_id, filters, vector, limit=limit, after=behind)
        if concepts:
            async with self._db.read(RowScope(client_id)) as connection:
                query = ids_by_meaning(
                    connection.dialect.name,
                    client_id,
                    filters,
                    concepts,
                    limit=limit,
                    after=behind,
                    without_model=vector.model if vector else None,
                )
                found += [(row.score, row.id) for row in await connection.execute(query)]
        return [Hit(Tier.MEANING, score, image_id) for score, image_id in sorted(found, reverse=True)[:limit]]


async def _hits_by_words(
    connection: AsyncConnection, client_id: int, filters: ImageFilter, *, limit: int, after: Hit | None
) -> list[Hit]:
    hits: list[Hit] = []
    for tier, match in _WORD_MATCHES.items():
        if len(hits) < limit and (after is None or after.tier <= tier):
            before = after.image_id if after is not None and after.tier == tier else None
            query = page_ids(
                connection.dialect.name, client_id, filters, limit=limit - len(hits), before=before, words=match
            )
            hits += [Hit(tier, 0, row.id) for row in await connection.execute(query)]
    return hits


async def _page(connection: AsyncConnection, client_id: int, hits: list[Hit], *, limit: int) -> SearchPage:
    """Return a page of up to `limit` hits; one more hit means that another page follows."""
    shown = hits[:limit]
    found = await rows_by_id(connection, client_id, [hit.image_id for hit in shown])
    # An image may be deleted while it is searched.
    listed = [hit for hit in shown if hit.image_id in found]
    usage = await read_usage(connection, client_id)
    next_after = shown[-1] if len(hits) > limit else None
    return SearchPage(tuple(found[hit.image_id] for hit in listed), tuple(listed), next_after, usage)
