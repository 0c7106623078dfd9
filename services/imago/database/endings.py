"""How stages and images end: what a result or a death writes beside the stage's row, in its transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database import outbox as outbox_rows
from imago.database.derived import refresh_derived
from imago.database.outbox import Draft, ImageIdentity
from imago.database.statements import Row, Statement
from imago.database.tables import client_usage, dead_letters, image_stages, images
from imago.domain.events import EventName
from imago.domain.failures import StageFailure
from imago.domain.results import ExifResult, OcrResult, StageResult, ThumbnailResult, VisionResult
from imago.domain.search import fold
from imago.domain.stages import TERMINAL_IMAGE_STATUSES, Stage, StageStatus, image_status


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


_STATUSES = Statement(sa.select(image_stages.c.status).where(image_stages.c.image_id == sa.bindparam("of_image")))
_ADD_USAGE = Statement(
    sa.update(client_usage)
    .where(client_usage.c.client_id == sa.bindparam("of_client"))
    .values(storage_bytes=client_usage.c.storage_bytes + sa.bindparam("more", type_=sa.BigInteger))
)


@lru_cache
def _of_image(*columns: str) -> Statement:
    """Build the UPDATE that sets columns of the image `of_image`."""
    values: dict[str, sa.BindParameter[object]] = {name: sa.bindparam(name) for name in columns}
    return Statement(sa.update(images).where(images.c.id == sa.bindparam("of_image")).values(values))


async def end_if_last(
    connection: AsyncConnection,
    image: ImageIdentity,
    row: Row,
    *,
    now: datetime,
    headers: Mapping[str, str],
) -> tuple[list[Draft], timedelta | None]:
    """Set the image's status from its stages; return what announces that none is open any more, and its age then."""
    stages = await _STATUSES.rows(connection, {"of_image": image.id})
    return await end_image(
        connection, image, row, [StageStatus(stage.status) for stage in stages], {}, now=now, headers=headers
    )


async def end_image(
    connection: AsyncConnection,
    image: ImageIdentity,
    row: Row,
    stages: Sequence[StageStatus],
    found: Mapping[str, object],
    *,
    now: datetime,
    headers: Mapping[str, str],
) -> tuple[list[Draft], timedelta | None]:
    """Do the same for an image whose stages are known, and set the columns that were `found` with it, in one UPDATE."""
    status = image_status(stages)
    done = status in TERMINAL_IMAGE_STATUSES
    values = dict(found)
    # Most stages end while others are open, and change nothing here.
    if done or row.status != status or row.done_at is not None:
        values |= {"status": status, "done_at": now if done else None}
    if values:
        await _of_image(*values).count(connection, {**values, "of_image": image.id})
    if not done:
        return [], None
    event = outbox_rows.event(image, EventName.IMAGE_DONE, at=now, headers=headers, status=status)
    return [event], now - row.created_at


async def apply_result(
    connection: AsyncConnection,
    image: ImageIdentity,
    row: Row,
    result: StageResult,
    *,
    thumbnail_key: str | None,
) -> dict[str, object]:
    """Copy what lists and searches need from a result; return the columns of the image that the caller is to set."""
    match result:
        case ThumbnailResult():
            more = {"of_client": image.client_id, "more": result.size_bytes - row.thumbnail_bytes}
            await _ADD_USAGE.count(connection, more)
            return {
                "thumbnail_key": thumbnail_key,
                "thumbnail_type": result.content_type,
                "thumbnail_bytes": result.size_bytes,
            }
        case ExifResult():
            camera = fold(" ".join(part for part in (result.camera.make, result.camera.model) if part))
            return {"camera": camera or None, "taken_at": result.taken_local, "has_gps": result.gps.has_gps}
        case OcrResult() | VisionResult():
            await refresh_derived(connection, image.client_id, image.id)
            return {}
