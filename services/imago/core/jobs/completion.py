"""Completion of claims: the results and the failures of attempts.

Every transaction locks the image first. A result is written only where `run` and `claim` are the claim's own, so a late
worker that lost its claim (frozen, disconnected, or overtaken by a reprocess) changes nothing.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.embeddings import StoredEmbedding, store_embeddings
from imago.core.images.lists.places import store_places
from imago.core.images.lists.similar import store_hashes
from imago.core.images.locks import lock_image, lock_images
from imago.core.images.model import ImageIdentity
from imago.core.images.recognition.index import store_recognition
from imago.core.images.recognition.model import Recognition
from imago.core.images.results import EmbedResult, ExifResult, OcrResult, StageResult, ThumbnailResult, VisionResult
from imago.core.images.search.index import refresh_search_index
from imago.core.jobs import statements
from imago.core.jobs.claims import Claim, ClaimLost, claim_values
from imago.core.jobs.failures import StageFailure
from imago.core.jobs.rules import Die, FailureDecision, Park, RetryInStream, decide_failure
from imago.core.jobs.stage_outcomes import (
    StageEnded,
    add_usage,
    dead_letter_stage,
    report_image_done,
    result_columns,
    status_columns,
    update_image_columns,
    update_image_status,
)
from imago.core.jobs.stages import StageStatus
from imago.core.outbox.drafts import Draft, draft_event, draft_work
from imago.core.outbox.events import EventName
from imago.core.outbox.model import OutboxRow
from imago.core.outbox.rows import insert_drafts
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.prepared import Row
from imago.db.tables import image_stages, stage_results, tombstones


@dataclass(frozen=True)
class StageCompletion:
    """A claim and its result; `headers` are those of messages that follow, `thumbnail_key` is the stored thumbnail.

    Without a recognition, that of an earlier run stays, because the image is the same.
    """

    claim: Claim
    result: StageResult
    headers: Mapping[str, str]
    thumbnail_key: str | None = None
    recognition: Recognition | None = None


@dataclass(frozen=True)
class FailedAttempt:
    """The decision about a failed attempt, and the messages to publish."""

    decision: FailureDecision
    outbox: tuple[OutboxRow, ...]
    image_done_after: timedelta | None = None


@dataclass(frozen=True)
class _Effects:
    """The changes of a completion besides its stage, and the messages that report it."""

    completion: StageCompletion
    columns: Mapping[str, object]
    thumbnail_growth: int
    drafts: Sequence[Draft]
    image_done_after: timedelta | None


async def complete_stages(db: Database, completions: Sequence[StageCompletion]) -> list[StageEnded | ClaimLost]:
    """Store results of claims in one transaction; return a result for each completion, in their order.

    Nothing is written for a lost claim. After DatabaseUnavailable the redelivery of the message decides.
    """
    async with db.write(SYSTEM) as connection:
        return await _complete(connection, completions)


async def fail_stage(
    db: Database,
    claim: Claim,
    failure: StageFailure,
    *,
    max_tries: int,
    base: timedelta,
    cap: timedelta,
    headers: Mapping[str, str],
) -> FailedAttempt:
    """Record a failed attempt; raise ClaimLost, and DatabaseUnavailable as `complete_stages` does.

    `base` and `cap` are the parameters of `failures.backoff`.
    """
    decision = decide_failure(failure, attempts=claim.attempts, max_tries=max_tries, base=base, cap=cap)
    async with db.write(SYSTEM) as connection:
        locked = await lock_image(connection, claim.image.id)
        if locked is None:
            raise ClaimLost("the image is gone")
        image, row = locked
        attempt = _Attempt(connection, image, claim, failure, utc_now(), headers)
        match decision:
            case Die():
                ended = await attempt.die(row)
                return FailedAttempt(decision, ended.outbox, ended.image_done_after)
            case RetryInStream(delay):
                return FailedAttempt(decision, await attempt.retry(due_at=attempt.now + delay))
            case Park(delay, counted):
                return FailedAttempt(decision, await attempt.park(due_at=attempt.now + delay, counted=counted))


async def _complete(
    connection: AsyncConnection, completions: Sequence[StageCompletion]
) -> list[StageEnded | ClaimLost]:
    locked = await lock_images(connection, {each.claim.image.id for each in completions})
    now = utc_now()
    effects = await _end_stages(connection, completions, locked, now=now)
    await _store_results(connection, [each.completion for each in effects], now=now)
    await _update_images(connection, effects)
    ended = await _report(connection, effects)
    await _delete_late_thumbnails(connection, [each for each in completions if each.claim.image.id not in locked])
    await add_usage(connection, _usage_growth(effects))
    return [ended.get(each.claim.key) or ClaimLost("its claim or its image is gone") for each in completions]


async def _end_stages(
    connection: AsyncConnection,
    completions: Sequence[StageCompletion],
    locked: Mapping[int, tuple[ImageIdentity, Row]],
    *,
    now: datetime,
) -> list[_Effects]:
    """End the stages whose claims are still valid; return the effects of their completions."""
    # Sorted, so that of two stages of one image the second sees that the first has ended.
    ordered = sorted(completions, key=lambda each: (each.claim.image.id, each.claim.stage))
    rows = await statements.END_STAGE.fetchmany(
        connection,
        [{**claim_values(each.claim), "done_at": now} for each in ordered if each.claim.image.id in locked],
    )
    others = {(row.image_id, row.stage, row.claim): _statuses(row.others) for row in rows}
    return [
        _effects(each, *locked[each.claim.image.id], [*others[each.claim.key], StageStatus.DONE], now=now)
        for each in ordered
        if each.claim.key in others
    ]


def _statuses(text: str | None) -> list[StageStatus]:
    return [StageStatus(status) for status in (text or "").split(",") if status]


def _effects(
    completion: StageCompletion, image: ImageIdentity, row: Row, stages: Sequence[StageStatus], *, now: datetime
) -> _Effects:
    claim, result, headers = completion.claim, completion.result, completion.headers
    changed, ended = status_columns(row, stages, now=now)
    stage_done = draft_event(
        image,
        EventName.STAGE_DONE,
        at=now,
        headers=headers,
        stage=claim.stage,
        run=claim.run,
        status=StageStatus.DONE,
    )
    image_done, age = report_image_done(image, row, ended, now=now, headers=headers)
    return _Effects(
        completion,
        columns={**result_columns(result, thumbnail_key=completion.thumbnail_key), **changed},
        thumbnail_growth=result.size_bytes - row.thumbnail_bytes if isinstance(result, ThumbnailResult) else 0,
        drafts=[stage_done, *image_done],
        image_done_after=age,
    )


async def _store_results(connection: AsyncConnection, completions: Sequence[StageCompletion], *, now: datetime) -> None:
    """Insert results, replacing those of earlier runs."""
    for claim in (each.claim for each in completions if each.claim.run > 1):
        await connection.execute(
            sa.delete(stage_results).where(
                stage_results.c.image_id == claim.image.id,
                stage_results.c.stage == claim.stage,
                stage_results.c.run < claim.run,
            )
        )
    await statements.INSERT_RESULT.executemany(
        connection,
        [
            {
                "image_id": each.claim.image.id,
                "stage": each.claim.stage,
                "run": each.claim.run,
                "client_id": each.claim.image.client_id,
                "data": each.result.to_json(),
                "words": each.result.words if isinstance(each.result, OcrResult) else None,
                "created_at": now,
            }
            for each in completions
        ],
    )


async def _update_images(connection: AsyncConnection, effects: Sequence[_Effects]) -> None:
    columns: dict[int, dict[str, object]] = {}
    for each in effects:
        columns.setdefault(each.completion.claim.image.id, {}).update(each.columns)
    await update_image_columns(connection, columns)
    await store_hashes(connection, _hashed([each.completion for each in effects]))
    await store_places(connection, _placed([each.completion for each in effects]))
    await store_embeddings(connection, _embedded([each.completion for each in effects]))
    searched = {each.completion.claim.image.id: each.completion.claim.image for each in effects if _is_searched(each)}
    for image in searched.values():
        await refresh_search_index(connection, image.client_id, image.id)
    for each in effects:
        image, recognition = each.completion.claim.image, each.completion.recognition
        if recognition is not None:
            await store_recognition(connection, image.client_id, image.id, recognition)


def _is_searched(effects: _Effects) -> bool:
    """Return whether a result changes the texts that search finds its image by."""
    match effects.completion.result:
        case OcrResult() | VisionResult():
            return True
        case ExifResult(iptc=iptc, place=place):
            # Most files have no such texts; an earlier run may have stored some.
            return iptc is not None or place is not None or effects.completion.claim.run > 1
        case _:
            return False


def _hashed(completions: Sequence[StageCompletion]) -> list[tuple[int, int, int | None]]:
    """Return the hashes of thumbnails, which replace those of an earlier run."""
    return [
        (each.claim.image.id, each.claim.image.client_id, each.result.hash)
        for each in completions
        if isinstance(each.result, ThumbnailResult) and (each.result.hash is not None or each.claim.run > 1)
    ]


def _placed(completions: Sequence[StageCompletion]) -> list[tuple[int, int, ExifResult]]:
    """Return the results that have coordinates, or replace those of an earlier run, which may have had some."""
    return [
        (each.claim.image.id, each.claim.image.client_id, each.result)
        for each in completions
        if isinstance(each.result, ExifResult) and (each.result.gps.has_gps or each.claim.run > 1)
    ]


def _embedded(completions: Sequence[StageCompletion]) -> list[StoredEmbedding]:
    return [
        StoredEmbedding(each.claim.image.id, each.claim.image.client_id, each.result.fingerprint, each.result.vector)
        for each in completions
        if isinstance(each.result, EmbedResult)
    ]


async def _report(connection: AsyncConnection, effects: Sequence[_Effects]) -> dict[tuple[int, str, int], StageEnded]:
    """Insert the drafts of all completions with one statement; return the ended stages by their claims' keys."""
    rows = iter(await insert_drafts(connection, *(draft for each in effects for draft in each.drafts)))
    return {
        each.completion.claim.key: StageEnded(tuple(itertools.islice(rows, len(each.drafts))), each.image_done_after)
        for each in effects
    }


async def _delete_late_thumbnails(connection: AsyncConnection, completions: Sequence[StageCompletion]) -> None:
    """Add tombstones of thumbnails that were stored after the objects of their deleted images were deleted."""
    now = utc_now()
    late = [
        {"object_key": each.thumbnail_key, "created_at": now, "due_at": now, "final_at": now}
        for each in completions
        if each.thumbnail_key
    ]
    if late:
        await connection.execute(sa.insert(tombstones), late)


def _usage_growth(effects: Sequence[_Effects]) -> dict[int, int]:
    growth: dict[int, int] = {}
    for each in effects:
        if isinstance(each.completion.result, ThumbnailResult):
            client_id = each.completion.claim.image.client_id
            growth[client_id] = growth.get(client_id, 0) + each.thumbnail_growth
    return growth


@dataclass(frozen=True)
class _Attempt:
    """A failed attempt in the transaction that records it, with the image locked."""

    connection: AsyncConnection
    image: ImageIdentity
    claim: Claim
    failure: StageFailure
    now: datetime
    headers: Mapping[str, str]

    async def die(self, image_row: Row) -> StageEnded:
        """Dead-letter the stage."""
        row = await statements.SELECT_CLAIMED_STAGE.one_or_none(self.connection, claim_values(self.claim))
        if row is None:
            raise ClaimLost("another claim or run took over")
        drafts = await dead_letter_stage(
            self.connection, self.image, row, failure=self.failure, now=self.now, headers=self.headers
        )
        image_drafts, age = await update_image_status(
            self.connection, self.image, image_row, now=self.now, headers=self.headers
        )
        return StageEnded(await insert_drafts(self.connection, *drafts, *image_drafts), age)

    async def retry(self, *, due_at: datetime) -> tuple[OutboxRow, ...]:
        """Make the stage due again at `due_at`, when its message is redelivered."""
        await self._set_retrying(due_at=due_at)
        return await self._report_retry()

    async def park(self, *, due_at: datetime, counted: bool) -> tuple[OutboxRow, ...]:
        """Park the stage until `due_at`: its next message waits in the outbox, under the next epoch."""
        claim = self.claim
        uncounted = {} if counted else {"attempts": claim.attempts - 1}
        epoch = await self._set_retrying(due_at=due_at, epoch=image_stages.c.epoch + 1, **uncounted)
        parked = draft_work(
            self.image,
            claim.stage,
            run=claim.run,
            epoch=epoch,
            lane=claim.lane,
            headers=self.headers,
            due_at=due_at,
        )
        # Not returned with the rows to publish now: the relay publishes it when it is due.
        await insert_drafts(self.connection, parked)
        return await self._report_retry()

    async def _set_retrying(self, **values: object) -> int:
        """Set the stage to retrying and return its epoch."""
        failure = {"error_code": self.failure.code, "error_text": self.failure.text}
        epoch = await self.connection.scalar(
            sa.update(image_stages)
            .where(*statements.CLAIM_IS_VALID)
            .values(status=StageStatus.RETRYING, lease_until=None, **failure, **values)
            .returning(image_stages.c.epoch),
            claim_values(self.claim),
        )
        if epoch is None:
            raise ClaimLost("another claim or run took over")
        return int(epoch)

    async def _report_retry(self) -> tuple[OutboxRow, ...]:
        event = draft_event(
            self.image,
            EventName.STAGE_RETRYING,
            at=self.now,
            headers=self.headers,
            stage=self.claim.stage,
            run=self.claim.run,
            status=StageStatus.RETRYING,
        )
        return await insert_drafts(self.connection, event)
