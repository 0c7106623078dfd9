"""What a worker's claims come to: results and failures (DESIGN, section 3, steps 4 and 5).

Every transaction here first locks the image. A result is written only `WHERE run = mine AND claim = mine`, so a worker
that lost its claim (frozen, cut off, or overtaken by a reprocess) changes nothing, however late it comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database import outbox as outbox_rows
from imago.database import work_statements as statements
from imago.database.claims import Claim, ClaimLost, Ended, mine
from imago.database.endings import apply_result, bury_stage, end_if_last, end_image
from imago.database.engine import SYSTEM, Database
from imago.database.locking import lock_image
from imago.database.outbox import ImageIdentity
from imago.database.statements import Row
from imago.database.tables import image_stages, stage_results, tombstones
from imago.domain.claims import Die, FailureDecision, Park, RetryInStream, decide_failure
from imago.domain.events import EventName
from imago.domain.failures import StageFailure
from imago.domain.outbox import OutboxRow
from imago.domain.results import StageResult
from imago.domain.stages import Stage, StageStatus
from imago.domain.times import utc_now


@dataclass(frozen=True)
class Failed:
    """What became of a failed try."""

    decision: FailureDecision
    outbox: tuple[OutboxRow, ...]
    image_done_after: timedelta | None = None


class ImageGone(ClaimLost):
    """The image was deleted while it was worked on."""


async def finish(
    db: Database,
    held: Claim,
    result: StageResult,
    *,
    headers: Mapping[str, str],
    thumbnail_key: str | None = None,
) -> Ended:
    """Store the result of a claim, in one transaction with everything that follows from it.

    Raises ClaimLost, and then nothing was written; DatabaseUnavailable leaves the outcome to the redelivery.
    """
    try:
        return await _finish(db, held, result, headers=headers, thumbnail_key=thumbnail_key)
    except ImageGone:
        if thumbnail_key is not None:
            # Written after its image's objects were deleted.
            await bury_object(db, thumbnail_key)
        raise


async def _finish(
    db: Database,
    held: Claim,
    result: StageResult,
    *,
    headers: Mapping[str, str],
    thumbnail_key: str | None,
) -> Ended:
    async with db.write(SYSTEM) as connection:
        locked = await lock_image(connection, held.image.id)
        if locked is None:
            raise ImageGone("the image is gone")
        image, row = locked
        now = utc_now()
        left = await statements.END.one_or_none(connection, {**mine(held), "done_at": now})
        if left is None:
            raise ClaimLost("another claim or run took over")
        if held.run > 1:
            await connection.execute(
                sa.delete(stage_results).where(
                    stage_results.c.image_id == image.id,
                    stage_results.c.stage == held.stage,
                    stage_results.c.run < held.run,
                )
            )
        stored = {
            "image_id": image.id,
            "stage": held.stage,
            "run": held.run,
            "client_id": image.client_id,
            "data": result.to_json(),
            "created_at": now,
        }
        await statements.STORE.count(connection, stored)
        found = await apply_result(connection, image, row, result, thumbnail_key=thumbnail_key)
        told = outbox_rows.event(
            image,
            EventName.STAGE_DONE,
            at=now,
            headers=headers,
            stage=held.stage,
            run=held.run,
            status=StageStatus.DONE,
        )
        others = [StageStatus(status) for status in (left.others or "").split(",") if status]
        ended, done_after = await end_image(
            connection, image, row, [*others, StageStatus.DONE], found, now=now, headers=headers
        )
        return Ended(await outbox_rows.add(connection, told, *ended), done_after)


async def fail(
    db: Database,
    held: Claim,
    failure: StageFailure,
    *,
    max_tries: int,
    base: timedelta,
    cap: timedelta,
    headers: Mapping[str, str],
) -> Failed:
    """Note a failed try and decide what follows; raises as `finish` does."""
    decision = decide_failure(failure, attempts=held.attempts, max_tries=max_tries, base=base, cap=cap)
    async with db.write(SYSTEM) as connection:
        locked = await lock_image(connection, held.image.id)
        if locked is None:
            raise ClaimLost("the image is gone")
        image, row = locked
        now = utc_now()
        match decision:
            case Die():
                await _check_mine(connection, held)
                stage_row = await _stage_row(connection, image.id, held.stage)
                if stage_row is None:
                    raise ClaimLost("the stage is gone")
                drafts = await bury_stage(
                    connection, image, held.stage, stage_row, failure=failure, now=now, headers=headers
                )
                ended, done_after = await end_if_last(connection, image, row, now=now, headers=headers)
                return Failed(decision, await outbox_rows.add(connection, *drafts, *ended), done_after)
            case RetryInStream(delay):
                rows = await _retry(connection, image, held, failure, now=now, delay=delay, headers=headers)
            case Park(delay, counted):
                rows = await _retry(
                    connection, image, held, failure, now=now, delay=delay, headers=headers, park=True, counted=counted
                )
        return Failed(decision, rows)


async def bury_object(db: Database, object_key: str) -> None:
    """Have an object deleted that was written for an image that is gone by now."""
    now = utc_now()
    async with db.write(SYSTEM) as connection:
        await connection.execute(
            sa.insert(tombstones).values(object_key=object_key, created_at=now, due_at=now, final_at=now)
        )


async def _leave(connection: AsyncConnection, held: Claim, **values: object) -> None:
    """Leave `running` with the given values, if the claim is still ours."""
    left = await connection.execute(
        sa.update(image_stages).where(*statements.MINE).values(lease_until=None, **values), mine(held)
    )
    if left.rowcount != 1:
        raise ClaimLost("another claim or run took over")


async def _check_mine(connection: AsyncConnection, held: Claim) -> None:
    if await connection.scalar(sa.select(sa.literal(1)).where(*statements.MINE), mine(held)) is None:
        raise ClaimLost("another claim or run took over")


async def _stage_row(connection: AsyncConnection, image_id: int, stage: Stage) -> Row | None:
    return await statements.STAGE.one_or_none(connection, {"of_image": image_id, "of_stage": stage})


async def _retry(
    connection: AsyncConnection,
    image: ImageIdentity,
    held: Claim,
    failure: StageFailure,
    *,
    now: datetime,
    delay: timedelta,
    headers: Mapping[str, str],
    park: bool = False,
    counted: bool = True,
) -> tuple[OutboxRow, ...]:
    values: dict[str, object] = {
        "status": StageStatus.RETRYING,
        "due_at": now + delay,
        "error_code": failure.code,
        "error_text": failure.text,
    }
    if not counted:
        values["attempts"] = held.attempts - 1
    if park:
        values["epoch"] = image_stages.c.epoch + 1
    await _leave(connection, held, **values)
    if park:
        epoch = await connection.scalar(
            sa.select(image_stages.c.epoch).where(
                image_stages.c.image_id == image.id, image_stages.c.stage == held.stage
            )
        )
        parked = outbox_rows.work(
            image,
            held.stage,
            run=held.run,
            epoch=int(epoch or 0),
            lane=held.lane,
            headers=headers,
            due_at=now + delay,
        )
        # Not among the rows returned: it is the relay that publishes it, when it is due.
        await outbox_rows.add(connection, parked)
    event = outbox_rows.event(
        image,
        EventName.STAGE_RETRYING,
        at=now,
        headers=headers,
        stage=held.stage,
        run=held.run,
        status=StageStatus.RETRYING,
    )
    return await outbox_rows.add(connection, event)
