"""How stages and images end: what a result or a death writes beside the stage's row, in its transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.results import ExifResult, OcrResult, StageResult, ThumbnailResult, VisionResult
from imago.core.images.text_folding import fold
from imago.core.jobs.failures import StageFailure
from imago.core.jobs.stages import TERMINAL_IMAGE_STATUSES, ImageStatus, Stage, StageStatus, image_status
from imago.core.outbox import rows as outbox_rows
from imago.core.outbox.events import EventName
from imago.core.outbox.rows import Draft, ImageIdentity
from imago.db.prepared import PreparedStatement, Row
from imago.db.tables import client_usage, dead_letters, image_stages, images


async def bury_stage(
    connection: AsyncConnection,
    image: ImageIdentity,
    stage: Stage,
    stage_row: Row,
    *,
    failure: StageFailure,
    now: datetime,
    headers: Mapping[str, str],
) -> list[Draft]:
    """Make a stage dead: its row and a dead letter; return what announces it."""
    where = (image_stages.c.image_id == image.id, image_stages.c.stage == stage)
    await connection.execute(
        sa.update(image_stages)
        .where(*where)
        .values(
            status=StageStatus.DEAD,
            done_at=now,
            lease_until=None,
            due_at=None,
            error_code=failure.code,
            error_text=failure.text,
        )
    )
    await connection.execute(
        sa.insert(dead_letters).values(
            client_id=image.client_id,
            image_id=image.id,
            stage=stage,
            run=stage_row.run,
            lane=stage_row.lane,
            attempts=stage_row.attempts,
            error_code=failure.code,
            error_text=failure.text,
            created_at=now,
        )
    )
    letter = outbox_rows.dead_letter(
        image,
        stage,
        run=stage_row.run,
        lane=stage_row.lane,
        attempts=stage_row.attempts,
        error_code=failure.code,
        at=now,
        headers=headers,
    )
    event = outbox_rows.event(
        image,
        EventName.STAGE_DEAD,
        at=now,
        headers=headers,
        stage=stage,
        run=stage_row.run,
        status=StageStatus.DEAD,
    )
    return [letter, event]


_STATUSES = PreparedStatement(
    sa.select(image_stages.c.status).where(image_stages.c.image_id == sa.bindparam("of_image"))
)
_ADD_USAGE = PreparedStatement(
    sa.update(client_usage)
    .where(client_usage.c.client_id == sa.bindparam("of_client"))
    .values(storage_bytes=client_usage.c.storage_bytes + sa.bindparam("more", type_=sa.BigInteger))
)


@lru_cache
def _of_image(*columns: str) -> PreparedStatement:
    """Build the UPDATE that sets columns of the image `of_image`."""
    values: dict[str, sa.BindParameter[object]] = {name: sa.bindparam(name) for name in columns}
    return PreparedStatement(sa.update(images).where(images.c.id == sa.bindparam("of_image")).values(values))


async def end_if_last(
    connection: AsyncConnection,
    image: ImageIdentity,
    row: Row,
    *,
    now: datetime,
    headers: Mapping[str, str],
) -> tuple[list[Draft], timedelta | None]:
    """Set the image's status from its stages; return what announces that none is open any more, and its age then."""
    stages = await _STATUSES.fetch(connection, {"of_image": image.id})
    values, done = status_columns(row, [StageStatus(stage.status) for stage in stages], now=now)
    await set_columns(connection, {image.id: values})
    return ([], None) if done is None else image_done(image, row, done, now=now, headers=headers)


def status_columns(
    row: Row, stages: Sequence[StageStatus], *, now: datetime
) -> tuple[dict[str, object], ImageStatus | None]:
    """Return the columns of an image that its stages change, and its status where that is the last one."""
    status = image_status(stages)
    done = status in TERMINAL_IMAGE_STATUSES
    # Most stages end while others are open, and change nothing here.
    if not done and row.status == status and row.done_at is None:
        return {}, None
    return {"status": status, "done_at": now if done else None}, status if done else None


def image_done(
    image: ImageIdentity, row: Row, status: ImageStatus, *, now: datetime, headers: Mapping[str, str]
) -> tuple[list[Draft], timedelta]:
    """Return what announces that an image is done, and its age."""
    event = outbox_rows.event(image, EventName.IMAGE_DONE, at=now, headers=headers, status=status)
    return [event], now - row.created_at


async def set_columns(connection: AsyncConnection, values: Mapping[int, Mapping[str, object]]) -> None:
    """Set columns of images by their ids, with one statement for all that have the same columns to set."""
    alike: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for image_id, columns in values.items():
        if columns:
            alike.setdefault(tuple(sorted(columns)), []).append({**columns, "of_image": image_id})
    for names, rows in alike.items():
        await _of_image(*names).executemany(connection, rows)


async def add_usage(connection: AsyncConnection, more: Mapping[int, int]) -> None:
    """Add bytes to what clients use, by their ids; the last thing that a transaction does, see `outbox.lock_rows`."""
    await _ADD_USAGE.executemany(connection, [{"of_client": client, "more": more[client]} for client in sorted(more)])


def columns_of(result: StageResult, *, thumbnail_key: str | None) -> dict[str, object]:
    """Return what a result sets of its image's columns, for lists and searches."""
    match result:
        case ThumbnailResult():
            return {
                "thumbnail_key": thumbnail_key,
                "thumbnail_type": result.content_type,
                "thumbnail_bytes": result.size_bytes,
            }
        case ExifResult():
            camera = fold(" ".join(part for part in (result.camera.make, result.camera.model) if part))
            return {"camera": camera or None, "taken_at": result.taken_local, "has_gps": result.gps.has_gps}
        case OcrResult() | VisionResult():
            return {}
