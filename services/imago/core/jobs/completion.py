"""What a worker's claims come to: results and failures (DESIGN, section 3, steps 4 and 5).

Every transaction here first locks the image. A result is written only `WHERE run = mine AND claim = mine`, so a worker
that lost its claim (frozen, cut off, or overtaken by a reprocess) changes nothing, however late it comes.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.locks import lock_image, lock_images
from imago.core.images.results import OcrResult, StageResult, ThumbnailResult, VisionResult
from imago.core.images.search_index import refresh_search_index
from imago.core.jobs import statements
from imago.core.jobs.claims import Claim, ClaimLost, Ended, mine
from imago.core.jobs.failures import StageFailure
from imago.core.jobs.rules import Die, FailureDecision, Park, RetryInStream, decide_failure
from imago.core.jobs.stage_outcomes import (
    add_usage,
    bury_stage,
    columns_of,
    end_if_last,
    image_done,
    set_columns,
    status_columns,
)
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.outbox import rows as outbox_rows
from imago.core.outbox.events import EventName
from imago.core.outbox.model import OutboxRow
from imago.core.outbox.rows import Draft, ImageIdentity
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.prepared import Row
from imago.db.tables import image_stages, stage_results, tombstones


@dataclass(frozen=True)
class Failed:
    """What became of a failed try."""

    decision: FailureDecision
    outbox: tuple[OutboxRow, ...]
    image_done_after: timedelta | None = None


@dataclass(frozen=True)
class Finished:
    """What a claim came to: a result, where its thumbnail was put if it is one, and the headers of what follows."""

    held: Claim
    result: StageResult
    headers: Mapping[str, str]
    thumbnail_key: str | None = None


async def finish(db: Database, finished: Sequence[Finished]) -> list[Ended | ClaimLost]:
    """Store the results of claims, in one transaction with everything that follows from them.

    Returns what became of each, in their order; for a lost claim nothing was written. DatabaseUnavailable leaves the
    outcome to the redelivery.
    """
    async with db.write(SYSTEM) as connection:
        return await _finish(connection, finished)


async def _finish(connection: AsyncConnection, finished: Sequence[Finished]) -> list[Ended | ClaimLost]:
    locked = await lock_images(connection, {each.held.image.id for each in finished})
    now = utc_now()
    # One after the other, so that of two stages of an image the second one sees that the first has ended.
    in_order = sorted(finished, key=lambda each: (each.held.image.id, each.held.stage))
    ended_rows = await statements.END.fetchmany(
        connection, [{**mine(each.held), "done_at": now} for each in in_order if each.held.image.id in locked]
    )
    left = {
        (row.image_id, row.stage, row.claim): [StageStatus(each) for each in (row.others or "").split(",") if each]
        for row in ended_rows
    }
    won = [each for each in in_order if (each.held.image.id, each.held.stage, each.held.claim) in left]
    await _store(connection, won, now=now)
    columns: dict[int, dict[str, object]] = {}
    used: dict[int, int] = {}
    drafts: dict[int, tuple[list[Draft], timedelta | None]] = {}
    for each in won:
        image, row = locked[each.held.image.id]
        others = left[image.id, each.held.stage, each.held.claim]
        changed, done = status_columns(row, [*others, StageStatus.DONE], now=now)
        columns.setdefault(image.id, {}).update(columns_of(each.result, thumbnail_key=each.thumbnail_key), **changed)
        if isinstance(each.result, ThumbnailResult):
            used[image.client_id] = used.get(image.client_id, 0) + each.result.size_bytes - row.thumbnail_bytes
        told, age = ([], None) if done is None else image_done(image, row, done, now=now, headers=each.headers)
        drafts[id(each)] = [_told(image, each, now=now), *told], age
    await set_columns(connection, columns)
    for each in won:
        if isinstance(each.result, OcrResult | VisionResult):
            await refresh_search_index(connection, each.held.image.client_id, each.held.image.id)
    rows = iter(await outbox_rows.add(connection, *(draft for given, _ in drafts.values() for draft in given)))
    ended = {key: Ended(tuple(itertools.islice(rows, len(given))), age) for key, (given, age) in drafts.items()}
    await bury_objects(
        connection,
        # Written after their images' objects were deleted.
        [each.thumbnail_key for each in finished if each.thumbnail_key and each.held.image.id not in locked],
    )
    await add_usage(connection, used)
    return [ended.get(id(each)) or ClaimLost("its claim or its image is gone") for each in finished]


async def _store(connection: AsyncConnection, won: Sequence[Finished], *, now: datetime) -> None:
    """Store results in place of those of earlier runs."""
    for held in (each.held for each in won if each.held.run > 1):
        await connection.execute(
            sa.delete(stage_results).where(
                stage_results.c.image_id == held.image.id,
                stage_results.c.stage == held.stage,
                stage_results.c.run < held.run,
            )
        )
    await statements.STORE.executemany(
        connection,
        [
            {
                "image_id": each.held.image.id,
                "stage": each.held.stage,
                "run": each.held.run,
                "client_id": each.held.image.client_id,
                "data": each.result.to_json(),
                "created_at": now,
            }
            for each in won
        ],
    )


def _told(image: ImageIdentity, each: Finished, *, now: datetime) -> Draft:
    return outbox_rows.event(
        image,
        EventName.STAGE_DONE,
        at=now,
        headers=each.headers,
        stage=each.held.stage,
        run=each.held.run,
        status=StageStatus.DONE,
    )


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


async def bury_objects(connection: AsyncConnection, object_keys: Sequence[str]) -> None:
    """Have objects deleted that were written for images that are gone by now."""
    now = utc_now()
    graves = [{"object_key": key, "created_at": now, "due_at": now, "final_at": now} for key in object_keys]
    if graves:
        await connection.execute(sa.insert(tombstones), graves)


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
