"""The lock on an image: every transaction on its stages takes it first, so that they see each other's results."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database.outbox import ImageIdentity
from imago.database.statements import Row, Statement
from imago.database.tables import clients, images

ImageRef = int | UUID


def matches(ref: ImageRef) -> sa.ColumnElement[bool]:
    """Return the condition that an image is the one referred to, by its id or its uuid."""
    return images.c.uuid == ref if isinstance(ref, UUID) else images.c.id == ref


def _lock(*, by_uuid: bool, of_client: bool) -> Statement:
    query = (
        # The client's settings of the pipeline too: a claim needs them, and one round trip has them all.
        sa.select(images, clients.c.uuid.label("client_uuid"), clients.c.ocr_languages, clients.c.description_language)
        .join(clients, clients.c.id == images.c.client_id)
        .where((images.c.uuid if by_uuid else images.c.id) == sa.bindparam("ref"))
        .with_for_update(of=images)
    )
    return Statement(query.where(images.c.client_id == sa.bindparam("of_client")) if of_client else query)


_LOCK = {
    (by_uuid, of_client): _lock(by_uuid=by_uuid, of_client=of_client)
    for by_uuid in (True, False)
    for of_client in (True, False)
}


async def lock_image(
    connection: AsyncConnection, ref: ImageRef, *, client_id: int | None = None
) -> tuple[ImageIdentity, Row] | None:
    """Lock an image until the transaction ends; return who it is and its row, or None where there is none.

    With `client_id` only that client's images are seen. SQLite ignores FOR UPDATE: there the transaction began
    IMMEDIATE and holds the whole database.
    """
    mine = {} if client_id is None else {"of_client": client_id}
    statement = _LOCK[isinstance(ref, UUID), client_id is not None]
    row = await statement.one_or_none(connection, {"ref": ref, **mine})
    if row is None:
        return None
    return ImageIdentity(row.id, row.uuid, row.client_id, row.client_uuid), row
