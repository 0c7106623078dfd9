"""Reads of a single image or page; the API batches concurrent reads."""

from imago.core.images.lists.filters import ImageFilter
from imago.core.images.locks import ImageRef
from imago.core.images.queries import ImageReads, ImageRow, Page
from imago.db.engine import Database


async def get_image(db: Database, client_id: int, ref: ImageRef) -> ImageRow:
    """Return an image of a client; raise NotFound."""
    return await ImageReads(db).one(client_id, ref)


async def list_images(
    db: Database, client_id: int, filters: ImageFilter, *, limit: int, before: int | None = None
) -> Page:
    """Return a page of a client's images, newest first, starting below the id `before`."""
    return await ImageReads(db).page(client_id, filters, limit=limit, before=before)
