"""Writes that follow the end of a stage, in its transaction: dead letters, the image's status, its columns, usage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.model import ImageIdentity
from imago.core.images.results import ExifResult, StageResult, ThumbnailResult, VisionResult
from imago.core.images.search.text_folding import fold
from imago.core.jobs.failures import StageFailure
from imago.core.jobs.stages import TERMINAL_IMAGE_STATUSES, ImageStatus, Stage, StageStatus, image_status
from imago.core.outbox.drafts import Draft, draft_dead_letter, draft_event
from imago.core.outbox.events import EventName
from imago.core.outbox.model import OutboxRow
from imago.db.prepared import PreparedStatement, Row
from imago.db.tables import client_usage, dead_letters, image_stages, images

# An index has a limit of 2,704 bytes, and Unicode folds some letters to many.
MAX_CAMERA = 512

_SELECT_STATUSES = PreparedStatement(
    sa.select(image_stages.c.status).where(image_stages.c.image_id == sa.bindparam("of_image"))
)
_ADD_USAGE = PreparedStatement(
    sa.update(client_usage)
    .where(client_usage.c.client_id == sa.bindparam("of_client"))
    .values(storage_bytes=client_usage.c.storage_bytes + sa.bindparam("more", type_=sa.BigInteger))
)


@lru_cache
def _update_columns(*columns: str) -> PreparedStatement:
    """Build the UPDATE of columns of the image `of_image`."""
    values: dict[str, sa.BindParameter[object]] = {name: sa.bindparam(name) for name in columns}
    return PreparedStatement(sa.update(images).where(images.c.id == sa.bindparam("of_image")).values(values))


@dataclass(frozen=True)
class StageEnded:
    """A stage that has ended: the messages to publish, and the image's age if its last open stage was this one."""

    outbox: tuple[OutboxRow, ...]
    image_done_after: timedelta | None = None


async def dead_letter_stage(
    connection: AsyncConnection,
    image: ImageIdentity,
    row: Row,
    *,
    failure: StageFailure,
    now: datetime,
    headers: Mapping[str, str],
) -> list[Draft]:
    """Mark the stage of the row `row` as dead and insert its dead letter; return the messages that report it."""
    stage = Stage(row.stage)
    await _mark_dead(connection, image.id, stage, failure=failure, now=now)
    await _insert_dead_letter(connection, image, row, failure=failure, now=now)
    letter = draft_dead_letter(
        image,
        stage,
        run=row.run,
        lane=row.lane,
        attempts=row.attempts,
        error_code=failure.code,
        at=now,
        headers=headers,
    )
    event = draft_event(
        image, EventName.STAGE_DEAD, at=now, headers=headers, stage=stage, run=row.run, status=StageStatus.DEAD
    )
    return [letter, event]


async def _insert_dead_letter(
    connection: AsyncConnection, image: ImageIdentity, row: Row, *, failure: StageFailure, now: datetime
) -> None:
    await connection.execute(
        sa.insert(dead_letters).values(
            client_id=image.client_id,
            image_id=image.id,
            stage=row.stage,
            run=row.run,
            lane=row.lane,
            attempts=row.attempts,
            error_code=failure.code,
            error_text=failure.text,
            created_at=now,
        )
    )


async def _mark_dead(
    connection: AsyncConnection, image_id: int, stage: Stage, *, failure: StageFailure, now: datetime
) -> None:
    await connection.execute(
        sa.update(image_stages)
        .where(image_stages.c.image_id == image_id, image_stages.c.stage == stage)
        .values(
            status=StageStatus.DEAD,
            done_at=now,
            lease_until=None,
            due_at=None,
            error_code=failure.code,
            error_text=failure.text,
        )
    )


async def update_image_status(
    connection: AsyncConnection,
    image: ImageIdentity,
    row: Row,
    *,
    now: datetime,
    headers: Mapping[str, str],
) -> tuple[list[Draft], timedelta | None]:
    """Derive an image's status from its stages; return the messages and the image's age if no stage is open any more.

    `row` is the image's row before the update.
    """
    stages = await _SELECT_STATUSES.fetch(connection, {"of_image": image.id})
    columns, ended = status_columns(row, [StageStatus(stage.status) for stage in stages], now=now)
    await update_image_columns(connection, {image.id: columns})
    return report_image_done(image, row, ended, now=now, headers=headers)


def status_columns(
    row: Row, stages: Sequence[StageStatus], *, now: datetime
) -> tuple[dict[str, object], ImageStatus | None]:
    """Return the columns of an image that its stages change, and its status if no stage is open any more."""
    status = image_status(stages)
    ended = status in TERMINAL_IMAGE_STATUSES
    # Most stages end while others are open, and then nothing changes.
    if not ended and row.status == status and row.done_at is None:
        return {}, None
    return {"status": status, "done_at": now if ended else None}, status if ended else None


def report_image_done(
    image: ImageIdentity, row: Row, status: ImageStatus | None, *, now: datetime, headers: Mapping[str, str]
) -> tuple[list[Draft], timedelta | None]:
    """Return the event of an image that has ended in `status`, and its age; nothing if `status` is None."""
    if status is None:
        return [], None
    return [draft_event(image, EventName.IMAGE_DONE, at=now, headers=headers, status=status)], now - row.created_at


async def update_image_columns(connection: AsyncConnection, columns: Mapping[int, Mapping[str, object]]) -> None:
    """Update columns of images, given by image id, with one statement for all images that have the same columns."""
    by_names: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for image_id, values in columns.items():
        if values:
            by_names.setdefault(tuple(sorted(values)), []).append({**values, "of_image": image_id})
    for names, rows in by_names.items():
        await _update_columns(*names).executemany(connection, rows)


async def add_usage(connection: AsyncConnection, growth: Mapping[int, int]) -> None:
    """Add bytes to the storage used, given by client id.

    This must be the last statement of a transaction: see the order of locks in `outbox.rows.lock_rows`.
    """
    await _ADD_USAGE.executemany(
        connection, [{"of_client": client_id, "more": growth[client_id]} for client_id in sorted(growth)]
    )


def result_columns(result: StageResult, *, thumbnail_key: str | None) -> dict[str, object]:
    """Return the columns of an image that a stage's result sets, for lists and searches."""
    match result:
        case ThumbnailResult():
            return {
                "thumbnail_key": thumbnail_key,
                "thumbnail_type": result.content_type,
                "thumbnail_bytes": result.size_bytes,
            }
        case ExifResult():
            camera = fold(" ".join(part for part in (result.camera.make, result.camera.model) if part))
            return {
                "camera": camera[:MAX_CAMERA] or None,
                "taken_at": result.taken_local,
                "has_gps": result.gps.has_gps,
            }
        case VisionResult(moderation_score=float()):
            return {"moderation_score": result.moderation_score}
        case _:
            return {}
