"""Search by the embeddings of images: those that are nearer to the query than to texts that no picture shows.

The search is exact: it reads all of the client's embeddings, in chunks and bounded memory.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from imago.core.images.lists.filters import ImageFilter, all_conditions
from imago.core.images.search.full_text import matching_ids
from imago.core.images.search.meaning import MIN_SCORE
from imago.core.images.search.query_embedding import QueryVector
from imago.db.engine import Database, RowScope
from imago.db.tables import image_embeddings, images

# 1.5 MB of vectors with 768 components.
_CHUNK = 1_000

# Only so many images, those nearest to the query, are compared with the background: a search finds no more.
_MOST = 1_000

# Scores are whole numbers on the scale of `meaning`, so that images of both kinds can be listed together: an image that
# is nearer than the margin by 0.1 counts as one that certainly shows the main concept of a query.
_SCORE_UNIT = 8_000_000


async def hits_by_embedding(
    db: Database, client_id: int, filters: ImageFilter, query: QueryVector, *, limit: int, after: tuple[int, int] | None
) -> list[tuple[int, int]]:
    """Return (score, image id) of at most `limit` of a client's images, the highest first, behind `after`.

    Images that have the words of the query are left out. Each chunk has a connection of its own, so that other requests
    get one between.
    """
    nearest = _Nearest(query)
    last = 0
    while True:
        async with db.read(RowScope(client_id)) as connection:
            chunk = _chunk(connection.dialect.name, client_id, filters, model=query.model, after=last)
            rows = (await connection.execute(chunk)).all()
        if rows:
            # The event loop serves others meanwhile.
            await asyncio.to_thread(nearest.add, [row.image_id for row in rows], [row.vector for row in rows])
        if len(rows) < _CHUNK:
            break
        last = rows[-1].image_id
    scored = await asyncio.to_thread(nearest.scores)
    return sorted((hit for hit in scored if after is None or hit < after), reverse=True)[:limit]


def _chunk(
    dialect: str, client_id: int, filters: ImageFilter, *, model: str, after: int
) -> sa.Select[tuple[int, bytes]]:
    embeddings = image_embeddings.c
    query = sa.select(embeddings.image_id, embeddings.vector).where(
        embeddings.client_id == client_id, embeddings.model == model, embeddings.image_id > after
    )
    conditions = all_conditions(client_id, filters)
    if conditions:
        query = query.join(images, images.c.id == embeddings.image_id).where(
            images.c.client_id == client_id, *conditions
        )
    by_words = matching_ids(dialect, client_id, filters.q or "")
    if by_words is not None:
        query = query.where(embeddings.image_id.not_in(by_words))
    return query.order_by(embeddings.image_id).limit(_CHUNK)


@dataclass
class _Nearest:
    """The images nearest to a query so far: their ids, vectors and cosines."""

    query: QueryVector
    ids: Any = None
    vectors: Any = None
    cosines: Any = None

    def add(self, ids: Sequence[int], vectors: Sequence[bytes]) -> None:
        """Compare images, given by id and vector."""
        import numpy as np

        wanted = np.frombuffer(self.query.vector, np.float32)
        rows = np.frombuffer(b"".join(vectors), np.float16).reshape(-1, len(wanted)).astype(np.float32)
        cosines = rows @ wanted / np.maximum(np.linalg.norm(rows, axis=1), 1e-9)
        if self.ids is None:
            self.ids, self.vectors, self.cosines = np.array(ids), rows, cosines
        else:
            self.ids = np.concatenate([self.ids, ids])
            self.vectors = np.concatenate([self.vectors, rows])
            self.cosines = np.concatenate([self.cosines, cosines])
        if len(self.ids) > _MOST:
            # By id where cosines are equal, so that every page keeps the same images.
            kept = np.lexsort((-self.ids, -self.cosines))[:_MOST]
            self.ids, self.vectors, self.cosines = self.ids[kept], self.vectors[kept], self.cosines[kept]

    def scores(self) -> list[tuple[int, int]]:
        """Return (score, image id) of the images that are nearer to the query than to the background."""
        import numpy as np

        if self.ids is None:
            return []
        background = np.frombuffer(self.query.background, np.float32).reshape(-1, self.vectors.shape[1])
        lengths = np.maximum(np.linalg.norm(self.vectors, axis=1), 1e-9)
        nearest_of_background = (self.vectors @ background.T).max(axis=1) / lengths
        beyond = self.cosines - nearest_of_background - self.query.min_margin
        return [
            (MIN_SCORE + round(float(more) * _SCORE_UNIT), int(image_id))
            for image_id, more in zip(self.ids, beyond, strict=True)
            if more >= 0
        ]
