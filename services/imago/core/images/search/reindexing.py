"""Indexes the images of earlier releases again, in small batches, because the content of search documents changed.

The progress is one row: images below its id are still to be indexed, the newest first. It is written in the transaction
of its batch, so a process that is killed repeats one batch at most. Images after the first batch are indexed as they
come; those that a worker of an earlier release finishes meanwhile keep the old content until they are processed again.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.locks import lock_images
from imago.core.images.search.index import refresh_search_index
from imago.db.engine import SYSTEM, Database
from imago.db.tables import images, search_reindexing

# Increased when documents of images that don't change must change.
DOCUMENT_VERSION = 1

# A batch takes some hundred milliseconds, for which its images are locked.
_BATCH = 20


async def reindex_batch(db: Database) -> int:
    """Index the next images again; return their number, 0 if none is left."""
    async with db.write(SYSTEM) as connection:
        below = await _begin(connection)
        ids = (
            await connection.scalars(
                sa.select(images.c.id).where(images.c.id < below).order_by(images.c.id.desc()).limit(_BATCH)
            )
        ).all()
        locked = await lock_images(connection, ids)
        for identity, _ in locked.values():
            await refresh_search_index(connection, identity.client_id, identity.id)
        if ids:
            await connection.execute(_PROGRESS.values(below_id=ids[-1]))
    return len(ids)


_OF_VERSION = search_reindexing.c.version == DOCUMENT_VERSION
_PROGRESS = sa.update(search_reindexing).where(_OF_VERSION)


async def _begin(connection: AsyncConnection) -> int:
    """Lock the progress, and return the id below which images are to be indexed."""
    query = sa.select(search_reindexing.c.below_id).where(_OF_VERSION).with_for_update()
    below: int | None = await connection.scalar(query)
    if below is None:
        newest = await connection.scalar(sa.select(sa.func.max(images.c.id)))
        below = 0 if newest is None else newest + 1
        await connection.execute(sa.insert(search_reindexing).values(version=DOCUMENT_VERSION, below_id=below))
    return below
