"""Locks on images: a transaction locks an image before its stages, so that it sees the results of earlier ones."""

from collections.abc import Collection
from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.model import ImageIdentity
from imago.core.jobs.stages import Stage
from imago.db.prepared import PreparedStatement, Row
from imago.db.tables import clients, image_stages, images

ImageRef = int | UUID


def _lock(*, by_uuid: bool, of_client: bool, to_delete: bool) -> PreparedStatement:
    query = (
        sa.select(images, clients.c.uuid.label("client_uuid"))
        .join(clients, clients.c.id == images.c.client_id)
        .where((images.c.uuid if by_uuid else images.c.id) == sa.bindparam("ref"))
        # NO KEY UPDATE: uploads of duplicates take KEY SHARE locks in arbitrary order, which must not wait for this.
        .with_for_update(of=images, key_share=not to_delete)
    )
    return PreparedStatement(query.where(images.c.client_id == sa.bindparam("of_client")) if of_client else query)


_LOCK = {
    (by_uuid, of_client, to_delete): _lock(by_uuid=by_uuid, of_client=of_client, to_delete=to_delete)
    for by_uuid in (True, False)
    for of_client in (True, False)
    for to_delete in (True, False)
}


async def lock_image(
    connection: AsyncConnection, ref: ImageRef, *, client_id: int | None = None, to_delete: bool = False
) -> tuple[ImageIdentity, Row] | None:
    """Lock an image until the transaction ends; return its identity and row, or None if it doesn't exist.

    `client_id` restricts the search to that client's images. With `to_delete`, wait for uploads of duplicates here,
    before this transaction holds other locks. SQLite ignores FOR UPDATE: a write transaction begins IMMEDIATE there and
    holds the whole database.
    """
    mine = {} if client_id is None else {"of_client": client_id}
    statement = _LOCK[isinstance(ref, UUID), client_id is not None, to_delete]
    row = await statement.one_or_none(connection, {"ref": ref, **mine})
    if row is None:
        return None
    return ImageIdentity(row.id, row.uuid, row.client_id, row.client_uuid), row


async def lock_images(connection: AsyncConnection, ids: Collection[int]) -> dict[int, tuple[ImageIdentity, Row]]:
    """Lock images by id in one round trip; omit those that don't exist."""
    # In ascending order, as in every transaction that locks several images.
    rows = await _LOCK[False, False, False].fetchmany(connection, [{"ref": image_id} for image_id in sorted(set(ids))])
    return {row.id: (ImageIdentity(row.id, row.uuid, row.client_id, row.client_uuid), row) for row in rows}


_STAGES = (
    sa.select(
        images,
        *(column.label(f"of_client_{column.key}") for column in clients.c),
        *(column.label(f"of_stage_{column.key}") for column in image_stages.c),
    )
    .join(clients, clients.c.id == images.c.client_id)
    .join(image_stages, image_stages.c.image_id == images.c.id)
)
_LOCK_STAGES = PreparedStatement(
    _STAGES.where(
        images.c.uuid == sa.any_(sa.bindparam("refs", type_=sa.ARRAY(images.c.uuid.type))),
        image_stages.c.stage == sa.any_(sa.bindparam("of_stages", type_=sa.ARRAY(sa.Text))),
    )
    .order_by(images.c.id, image_stages.c.stage)
    # Both, because after waiting for a lock a transaction sees the new version of locked rows only.
    .with_for_update(of=[images, image_stages], key_share=True)
)
_LOCK_BY_UUIDS = PreparedStatement(
    sa.select(images.c.id)
    .where(images.c.uuid == sa.any_(sa.bindparam("refs", type_=sa.ARRAY(images.c.uuid.type))))
    .order_by(images.c.id)
    .with_for_update(key_share=True)
)
# For SQLite, which has neither arrays nor row locks.
_STAGE = PreparedStatement(
    _STAGES.where(images.c.uuid == sa.bindparam("ref"), image_stages.c.stage == sa.bindparam("of_stage"))
)


@dataclass(frozen=True)
class LockedStage:
    """An image and one of its stages, both locked until the transaction ends, and their client."""

    identity: ImageIdentity
    image: Row
    stage: Row
    client: Row


async def lock_stages(
    connection: AsyncConnection, requested: Collection[tuple[UUID, Stage]]
) -> dict[tuple[UUID, Stage], LockedStage]:
    """Lock images and then their stages; omit those that don't exist.

    The locks are a cross product: every requested stage of every requested image may be locked.
    """
    if connection.dialect.name == "sqlite":
        rows = await _STAGE.fetchmany(connection, [{"ref": image, "of_stage": stage} for image, stage in requested])
    else:
        refs, stages = (sorted(set(values)) for values in zip(*requested, strict=True))
        if len(refs) > 1:
            # All images before the first stage: the eager publisher locks stages without their images, so waiting for
            # an image while holding a stage could deadlock.
            await _LOCK_BY_UUIDS.fetch(connection, {"refs": refs})
        rows = await _LOCK_STAGES.fetch(connection, {"refs": refs, "of_stages": stages})
    return {
        (row.uuid, Stage(row.of_stage_stage)): LockedStage(
            ImageIdentity(row.id, row.uuid, row.client_id, row.of_client_uuid),
            row,
            _part(row, "of_stage", image_stages),
            _part(row, "of_client", clients),
        )
        for row in rows
    }


def _part(row: Row, prefix: str, table: sa.Table) -> Row:
    return SimpleNamespace(**{column.key: getattr(row, f"{prefix}_{column.key}") for column in table.c})
