"""Claims: a worker's right to a run, taken, extended and released.

A claim is committed before the work starts. It has a number and a lease. `completion` writes the result only while the
claim's number is still the newest of its stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients.queries import client_from
from imago.core.images.locks import LockedStage, lock_stages
from imago.core.images.model import ImageFormat, ImageIdentity
from imago.core.jobs import statements
from imago.core.jobs.failures import PermanentFailure
from imago.core.jobs.rules import ClaimDecision, Drop, GiveUp, StageState, Start, Wait, decide_claim
from imago.core.jobs.stage_outcomes import StageEnded, dead_letter_stage, update_image_status
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus
from imago.core.outbox.rows import insert_drafts
from imago.core.outbox.work_message import WorkMessage
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable
from imago.db.prepared import Row
from imago.db.tables import image_stages

# Two messages for one stage in one batch: the second is redelivered after this delay.
_DUPLICATE_DELAY = timedelta(seconds=1)

WORKER_LOST = PermanentFailure("worker-lost", "Every worker that tried this stage died over it.")

StageKey = tuple[UUID, Stage]


@dataclass(frozen=True)
class Claim:
    """A claim on one run of a stage, and the facts that its work needs.

    The lease ends at `lease_until` unless it is extended.
    """

    image: ImageIdentity
    stage: Stage
    run: int
    claim: int
    lease_until: datetime
    attempts: int
    lane: str
    object_key: str
    size_bytes: int
    format: ImageFormat
    pixels: int
    frames: int
    ocr_languages: tuple[str, ...]
    description_language: str
    created_at: datetime
    ai_calls_per_month: int
    ai_budget_policy: BudgetPolicy | None

    @property
    def key(self) -> tuple[int, Stage, int]:
        """The image's id, the stage and the claim's number, which identify the claim."""
        return self.image.id, self.stage, self.claim


@dataclass(frozen=True)
class ClaimRequest:
    """A message whose run is to be claimed, and the headers of messages that follow from it."""

    message: WorkMessage
    headers: Mapping[str, str]

    @property
    def key(self) -> StageKey:
        """The image and the stage of the message."""
        return self.message.image, self.message.stage


@dataclass(frozen=True)
class ClaimRejected:
    """No claim: acknowledge the message, or redeliver it after `retry_in`."""

    reason: str
    retry_in: timedelta | None = None
    ended: StageEnded | None = None


class ClaimLost(Exception):
    """Another worker has claimed the stage since, or its image was deleted; nothing was written."""


class ClaimUnknown(DatabaseUnavailable):
    """The connection was lost during the commit of a claim; `release_unknown_claim` releases it if it exists."""

    def __init__(self, attempted: Claim) -> None:
        super().__init__("while a claim was committed")
        self.attempted = attempted


async def claim_stages(
    db: Database, requests: Sequence[ClaimRequest], *, lease: timedelta, max_tries: int
) -> list[Claim | ClaimRejected | DatabaseUnavailable]:
    """Claim the runs of messages in one transaction; return a result for each request, in their order.

    Raises DatabaseUnavailable if there is certainly no claim. If the commit's outcome is unknown, the results are
    ClaimUnknown for what was to be claimed, and DatabaseUnavailable for the other requests.
    """
    results: list[Claim | ClaimRejected] = []
    try:
        async with db.write(SYSTEM) as connection:
            results = await _claim(connection, requests, lease=lease, max_tries=max_tries)
    except DatabaseUnavailable as error:
        if not any(isinstance(result, Claim) for result in results):
            raise
        return [ClaimUnknown(result) if isinstance(result, Claim) else error for result in results]
    return list(results)


async def extend_claim(db: Database, claim: Claim, *, lease: timedelta) -> bool:
    """Extend a claim's lease from now; return False if the claim is lost."""
    async with db.write(SYSTEM) as connection:
        values = {**claim_values(claim), "lease_until": utc_now() + lease}
        return await statements.EXTEND_CLAIM.execute(connection, values) == 1


async def release_claim(db: Database, claim: Claim) -> None:
    """Return the attempt of a claim that an infrastructure error or a shutdown ended; ignore a lost claim."""
    async with db.write(SYSTEM) as connection:
        await connection.execute(_release(claim), claim_values(claim))


async def release_unknown_claim(db: Database, unknown: ClaimUnknown) -> None:
    """Return the attempt of a claim if it was committed.

    Another worker's claim may have the same number, but not the same lease expiry.
    """
    claim = unknown.attempted
    async with db.write(SYSTEM) as connection:
        await connection.execute(
            _release(claim).where(image_stages.c.lease_until == claim.lease_until), claim_values(claim)
        )


def claim_values(claim: Claim) -> dict[str, object]:
    """Return the values of `statements.CLAIM_IS_VALID`."""
    return {"of_image": claim.image.id, "of_stage": claim.stage, "of_run": claim.run, "of_claim": claim.claim}


async def _claim(
    connection: AsyncConnection, requests: Sequence[ClaimRequest], *, lease: timedelta, max_tries: int
) -> list[Claim | ClaimRejected]:
    locked = await lock_stages(connection, {request.key for request in requests})
    # After the locks, because waiting for them must not shorten the lease.
    now = utc_now()
    decisions = _decide(requests, locked, now=now, max_tries=max_tries)
    claims = {
        request.key: _new_claim(locked[request.key], lease_until=now + lease)
        for request, decision in zip(requests, decisions, strict=True)
        if isinstance(decision, Start)
    }
    await _write_claims(connection, claims, locked, now=now)
    await _start_images(connection, [locked[key] for key in claims], now=now)
    return [
        claims[request.key]
        if isinstance(decision, Start)
        else await _reject(connection, request, decision, locked, now=now)
        for request, decision in zip(requests, decisions, strict=True)
    ]


def _decide(
    requests: Sequence[ClaimRequest], locked: Mapping[StageKey, LockedStage], *, now: datetime, max_tries: int
) -> list[ClaimDecision]:
    decisions: list[ClaimDecision] = []
    seen: set[StageKey] = set()
    for request in requests:
        if request.key not in locked:
            decisions.append(Drop("image gone"))
        elif request.key in seen:
            decisions.append(Wait(_DUPLICATE_DELAY))
        else:
            state = _stage_state(locked[request.key].stage)
            decisions.append(decide_claim(state, run=request.message.run, now=now, max_tries=max_tries))
        seen.add(request.key)
    return decisions


def _stage_state(row: Row) -> StageState:
    return StageState(StageStatus(row.status), row.run, row.attempts, row.lease_until, row.due_at)


def _new_claim(locked: LockedStage, *, lease_until: datetime) -> Claim:
    image, stage, client = locked.image, locked.stage, client_from(locked.client)
    return Claim(
        image=locked.identity,
        stage=Stage(stage.stage),
        run=stage.run,
        claim=stage.claim + 1,
        lease_until=lease_until,
        attempts=stage.attempts + 1,
        lane=stage.lane,
        object_key=image.object_key,
        size_bytes=image.size_bytes,
        format=ImageFormat(image.format),
        pixels=image.width * image.height,
        frames=image.frames,
        ocr_languages=client.pipeline.ocr_languages,
        description_language=client.pipeline.description_language,
        created_at=image.created_at,
        ai_calls_per_month=client.limits.ai_calls_per_month,
        ai_budget_policy=client.pipeline.ai_budget_policy,
    )


async def _write_claims(
    connection: AsyncConnection,
    claims: Mapping[StageKey, Claim],
    locked: Mapping[StageKey, LockedStage],
    *,
    now: datetime,
) -> None:
    await statements.CLAIM_STAGE.executemany(
        connection,
        [
            {
                "of_image": claim.image.id,
                "of_stage": claim.stage,
                "claim": claim.claim,
                "attempts": claim.attempts,
                "lease_until": claim.lease_until,
                "started_at": locked[key].stage.started_at or now,
            }
            for key, claim in claims.items()
        ],
    )


async def _start_images(connection: AsyncConnection, claimed: Sequence[LockedStage], *, now: datetime) -> None:
    """Set the images of claimed stages that were pending to processing."""
    started = {
        stage.identity.id: stage.image.started_at or now
        for stage in claimed
        if stage.image.status == ImageStatus.PENDING
    }
    await statements.START_IMAGE.executemany(
        connection, [{"of_image": image_id, "started_at": moment} for image_id, moment in started.items()]
    )


async def _reject(
    connection: AsyncConnection,
    request: ClaimRequest,
    decision: Drop | Wait | GiveUp,
    locked: Mapping[StageKey, LockedStage],
    *,
    now: datetime,
) -> ClaimRejected:
    match decision:
        case Drop(reason):
            return ClaimRejected(reason)
        case Wait(delay):
            return ClaimRejected("not yet", retry_in=delay)
        case GiveUp():
            ended = await _give_up(connection, locked[request.key], headers=request.headers, now=now)
            return ClaimRejected("attempts used up", ended=ended)


async def _give_up(
    connection: AsyncConnection, locked: LockedStage, *, headers: Mapping[str, str], now: datetime
) -> StageEnded:
    drafts = await dead_letter_stage(
        connection, locked.identity, locked.stage, failure=WORKER_LOST, now=now, headers=headers
    )
    image_drafts, done_after = await update_image_status(
        connection, locked.identity, locked.image, now=now, headers=headers
    )
    return StageEnded(await insert_drafts(connection, *drafts, *image_drafts), done_after)


def _release(claim: Claim) -> sa.Update:
    status = StageStatus.PENDING if claim.attempts <= 1 else StageStatus.RETRYING
    return (
        sa.update(image_stages)
        .where(*statements.CLAIM_IS_VALID)
        .values(status=status, attempts=claim.attempts - 1, lease_until=None)
    )
