"""The lock on an image: every transaction on its stages takes it first, so that they see each other's results."""

from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database.outbox import ImageIdentity
from imago.database.statements import Row, Statement
from imago.database.tables import clients, image_stages, images
from imago.domain.stages import Stage

ImageRef = int | UUID


def _lock(*, by_uuid: bool, of_client: bool) -> Statement:
    query = (
        sa.select(images, clients.c.uuid.label("client_uuid"))
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


_LOCK_STAGE = Statement(
    sa.select(
        images,
        *(column.label(f"of_client_{column.key}") for column in clients.c),
        *(column.label(f"of_stage_{column.key}") for column in image_stages.c),
    )
    .join(clients, clients.c.id == images.c.client_id)
    .join(image_stages, image_stages.c.image_id == images.c.id)
    .where(images.c.uuid == sa.bindparam("ref"), image_stages.c.stage == sa.bindparam("of_stage"))
    # Both, because of what isn't locked a transaction that had to wait sees what was before.
    .with_for_update(of=[images, image_stages])
)


@dataclass(frozen=True)
class LockedStage:
    """An image and one of its stages, both locked until the transaction ends, and the client that they belong to."""

    identity: ImageIdentity
    image: Row
    stage: Row
    client: Row


async def lock_stage(connection: AsyncConnection, image: UUID, stage: Stage) -> LockedStage | None:
    """Lock an image and then a stage of it, in one round trip; return None where there is none."""
    row = await _LOCK_STAGE.one_or_none(connection, {"ref": image, "of_stage": stage})
    if row is None:
        return None
    return LockedStage(
        ImageIdentity(row.id, row.uuid, row.client_id, row.of_client_uuid),
        row,
        _part(row, "of_stage", image_stages),
        _part(row, "of_client", clients),
    )


def _part(row: Row, prefix: str, table: sa.Table) -> Row:
    return SimpleNamespace(**{column.key: getattr(row, f"{prefix}_{column.key}") for column in table.c})
