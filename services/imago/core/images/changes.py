"""Changes to images: deletion, reprocessing, and the user's description and tags."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients.model import Client
from imago.core.errors import NotFound, StageDisabled
from imago.core.images.locks import ImageRef, lock_image
from imago.core.images.model import ImageIdentity, thumbnail_key_beside
from imago.core.images.search.full_text import delete_document
from imago.core.images.search.index import refresh_search_index
from imago.core.images.tags import normalize_tags
from imago.core.jobs.stages import (
    OPTIONAL_STAGES,
    ImageStatus,
    Priority,
    Stage,
    StageStatus,
    image_status,
    requested_stages,
)
from imago.core.outbox.drafts import Draft, draft_event, draft_work
from imago.core.outbox.events import EventName
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.core.outbox.rows import insert_drafts, lock_rows
from imago.core.times import utc_now
from imago.db.engine import Database, RowScope
from imago.db.tables import client_usage, clients, image_stages, images, outbox, tombstones

# A worker whose image was deleted may still store a thumbnail until its lease ends. No stage takes longer than this, so
# the tombstone's second deletion comes after the last such write.
LATE_WRITE_PERIOD = timedelta(hours=1)


@dataclass(frozen=True)
class DeletedImage:
    """The messages of a deletion, and the keys of the objects that no longer belong to an image."""

    outbox: tuple[OutboxRow, ...]
    object_keys: tuple[str, ...]


class Unset(Enum):
    """Marks a field that a PATCH omits, as opposed to one that it sets to null."""

    UNSET = "unset"


UNSET = Unset.UNSET


async def delete_image(db: Database, client: Client, ref: ImageRef, *, headers: Mapping[str, str]) -> DeletedImage:
    """Delete an image and release its quota; raise NotFound.

    The object cleaner deletes its objects; the caller may do so earlier.
    """
    now = utc_now()
    async with db.write(RowScope(client.id)) as connection:
        locked = await lock_image(connection, ref, client_id=client.id, to_delete=True)
        if locked is None:
            raise NotFound("No such image.")
        image, row = locked
        await erase_image(connection, image, row, now=now)
        event = draft_event(image, EventName.IMAGE_DELETED, at=now, headers=headers)
        return DeletedImage(await insert_drafts(connection, event), object_keys(row))


def object_keys(row: sa.Row[tuple[object, ...]]) -> tuple[str, ...]:
    """Return the keys of an image's original and thumbnail, which may not exist yet."""
    return tuple(sorted({row.object_key, row.thumbnail_key or thumbnail_key_beside(row.object_key)}))


async def erase_image(
    connection: AsyncConnection, image: ImageIdentity, row: sa.Row[tuple[object, ...]], *, now: datetime
) -> None:
    """Delete a locked image's rows and insert tombstones for its objects; publishing an event is up to the caller."""
    # In the order of ids, as workers lock images; the foreign key's SET NULL would lock duplicates in any order.
    await connection.execute(
        sa.select(images.c.id)
        .where(images.c.duplicate_of == image.id)
        .order_by(images.c.id)
        .with_for_update(key_share=True)
    )
    await connection.execute(
        sa.insert(tombstones),
        [
            {"object_key": key, "created_at": now, "due_at": now, "final_at": now + LATE_WRITE_PERIOD}
            for key in object_keys(row)
        ],
    )
    await delete_document(connection, image.id)
    await lock_rows(connection, outbox.c.image_id == image.id)
    # In the order in which the eager publisher locks stages, too: the cascade would lock them in any order.
    await connection.execute(
        sa.select(image_stages.c.stage)
        .where(image_stages.c.image_id == image.id)
        .order_by(image_stages.c.stage)
        .with_for_update()
    )
    await connection.execute(sa.delete(images).where(images.c.id == image.id))
    await connection.execute(sa.delete(outbox).where(outbox.c.image_id == image.id, outbox.c.kind == OutboxKind.WORK))
    # Last, as in every transaction: image, outbox, stages, usage.
    await connection.execute(
        sa.update(client_usage)
        .where(client_usage.c.client_id == image.client_id)
        .values(
            storage_bytes=client_usage.c.storage_bytes - row.size_bytes - row.thumbnail_bytes,
            images=client_usage.c.images - 1,
        )
    )


async def reprocess(
    db: Database,
    client: Client,
    ref: ImageRef,
    stages: Iterable[Stage] | None,
    *,
    stages_off: frozenset[Stage],
    headers: Mapping[str, str],
) -> tuple[OutboxRow, ...]:
    """Start a new run of stages; their current results remain until the new ones replace them.

    With `stages` None, all stages of the client's pipeline run that the server has enabled. Raises NotFound, and
    StageDisabled if a named stage is disabled.
    """
    if stages is None:
        selected = [stage for stage in requested_stages(client.pipeline.stages) if stage not in stages_off]
    else:
        selected = list(dict.fromkeys(stages))
        off = [stage for stage in selected if stage in stages_off]
        if off:
            raise StageDisabled(f"The stage {off[0]} is disabled on this server.", extra={"stage": off[0]})
    async with db.write(RowScope(client.id)) as connection:
        locked = await lock_image(connection, ref, client_id=client.id)
        if locked is None:
            raise NotFound("No such image.")
        return await start_runs(connection, locked[0], selected, headers=headers)


async def start_runs(
    connection: AsyncConnection,
    image: ImageIdentity,
    stages: Sequence[Stage],
    *,
    headers: Mapping[str, str],
    priority: Priority = Priority.LIVE,
) -> tuple[OutboxRow, ...]:
    """Start a new run of stages of a locked image, in the caller's transaction."""
    lane = str(await connection.scalar(sa.select(clients.c.lane).where(clients.c.id == image.client_id)))
    drafts: list[Draft] = []
    await lock_rows(connection, outbox.c.image_id == image.id)
    for stage in sorted(stages):
        await _ensure_stage(connection, image, stage, lane=lane)
        # This cancels a waiting or running run: its messages and claims no longer match the stage's row.
        await connection.execute(
            sa.delete(outbox).where(
                outbox.c.image_id == image.id, outbox.c.stage == stage, outbox.c.kind == OutboxKind.WORK
            )
        )
        run = await connection.scalar(
            sa.update(image_stages)
            .where(image_stages.c.image_id == image.id, image_stages.c.stage == stage)
            .values(
                status=StageStatus.PENDING,
                run=image_stages.c.run + 1,
                attempts=0,
                epoch=1,
                lease_until=None,
                due_at=None,
                error_code=None,
                error_text=None,
                started_at=None,
                done_at=None,
                lane=lane,
                stream=None,
                sequence=None,
                message_id=None,
                published_at=None,
                priority=priority,
                ready_at=utc_now(),
            )
            .returning(image_stages.c.run)
        )
        drafts.append(draft_work(image, stage, run=int(run or 1), epoch=1, lane=lane, headers=headers))
    statuses = await connection.scalars(sa.select(image_stages.c.status).where(image_stages.c.image_id == image.id))
    status = image_status(StageStatus(value) for value in statuses)
    await connection.execute(
        sa.update(images)
        .where(images.c.id == image.id)
        .values(status=ImageStatus.PROCESSING if status is not ImageStatus.PENDING else status, done_at=None)
    )
    return await insert_drafts(connection, *drafts)


async def _ensure_stage(connection: AsyncConnection, image: ImageIdentity, stage: Stage, *, lane: str) -> None:
    """Insert the row of a stage that the server didn't have when the image was uploaded."""
    if stage not in OPTIONAL_STAGES:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = {"image_id": image.id, "client_id": image.client_id, "stage": stage, "lane": lane}
    unstarted = {"status": StageStatus.SKIPPED, "run": 0, "claim": 0, "attempts": 0, "epoch": 0}
    await connection.execute(insert(image_stages).values(**row, **unstarted).on_conflict_do_nothing())


async def set_user_metadata(
    db: Database,
    client: Client,
    ref: ImageRef,
    *,
    description: str | Unset | None = UNSET,
    tags: Sequence[str] | Unset | None = UNSET,
) -> None:
    """Set or clear the user's description and tags; raise NotFound."""
    values: dict[str, object] = {}
    if not isinstance(description, Unset):
        values["user_description"] = description
    if not isinstance(tags, Unset):
        values["user_tags"] = None if tags is None else list(normalize_tags(tags))
    async with db.write(RowScope(client.id)) as connection:
        locked = await lock_image(connection, ref, client_id=client.id)
        if locked is None:
            raise NotFound("No such image.")
        if values:
            await connection.execute(sa.update(images).where(images.c.id == locked[0].id).values(**values))
            await refresh_search_index(connection, client.id, locked[0].id)
