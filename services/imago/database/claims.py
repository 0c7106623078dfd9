"""A worker's claims: taking one, keeping it and giving it back (DESIGN, section 3, step 4).

A claim is a commit of its own with a number and a lease. What it came to is written by `database.work`, only while its
number is still the newest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database import outbox as outbox_rows
from imago.database import work_statements as statements
from imago.database.clients import client_of
from imago.database.endings import bury_stage, end_if_last
from imago.database.engine import SYSTEM, Database, DatabaseUnavailable
from imago.database.locking import lock_stage
from imago.database.outbox import ImageIdentity
from imago.database.tables import image_stages
from imago.domain.ai_calls import BudgetPolicy
from imago.domain.claims import Drop, GiveUp, StageState, Start, Wait, decide_claim
from imago.domain.failures import PermanentFailure
from imago.domain.images import ImageFormat
from imago.domain.outbox import OutboxRow
from imago.domain.stages import ImageStatus, Stage, StageStatus
from imago.domain.times import utc_now
from imago.domain.work import WorkMessage


@dataclass(frozen=True)
class Claim:
    """The right to work on one run of one stage, and what the work needs to know.

    `lease_until` is when it ends unless it is extended.
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
    ocr_languages: tuple[str, ...]
    description_language: str
    created_at: datetime
    ai_calls_per_month: int
    ai_budget_policy: BudgetPolicy | None


@dataclass(frozen=True)
class Ended:
    """A stage that ended in this transaction: what to announce, and the image's age if this ended the image too."""

    outbox: tuple[OutboxRow, ...]
    image_done_after: timedelta | None = None


@dataclass(frozen=True)
class Refused:
    """No claim: the message is acknowledged (`retry_in` None) or asked for again after `retry_in`."""

    reason: str
    retry_in: timedelta | None = None
    ended: Ended | None = None


class ClaimLost(Exception):
    """The claim is another's by now, or its image is gone; what was worked out is dropped."""


class ClaimUnknown(DatabaseUnavailable):
    """The database went away while it committed a claim: it may be there, and `release_unknown` undoes it if it is."""

    def __init__(self, attempted: Claim) -> None:
        super().__init__("while a claim was committed")
        self.attempted = attempted


LOST_WORKER = PermanentFailure("worker-lost", "Every worker that tried this stage died over it.")


async def claim(
    db: Database, message: WorkMessage, *, lease: timedelta, max_tries: int, headers: Mapping[str, str]
) -> Claim | Refused:
    """Claim the run that a message names, in a commit of its own.

    Raises DatabaseUnavailable where nothing was claimed, and its ClaimUnknown where nobody can tell.
    """
    claimed: Claim | Refused | None = None
    try:
        async with db.write(SYSTEM) as connection:
            claimed = await _claim(connection, message, lease=lease, max_tries=max_tries, headers=headers)
    except DatabaseUnavailable as error:
        if isinstance(claimed, Claim):
            raise ClaimUnknown(claimed) from error
        raise
    return claimed


async def _claim(
    connection: AsyncConnection, message: WorkMessage, *, lease: timedelta, max_tries: int, headers: Mapping[str, str]
) -> Claim | Refused:
    locked = await lock_stage(connection, message.image, message.stage)
    if locked is None:
        return Refused("image gone")
    image, row, stage_row = locked.identity, locked.image, locked.stage
    # Not before the lock: what is waited for it must not come off the lease.
    now = utc_now()
    lease_until = now + lease
    state = StageState(
        StageStatus(stage_row.status), stage_row.run, stage_row.attempts, stage_row.lease_until, stage_row.due_at
    )
    decision = decide_claim(state, run=message.run, now=now, max_tries=max_tries)
    match decision:
        case Drop(reason):
            return Refused(reason)
        case Wait(delay):
            return Refused("not yet", retry_in=delay)
        case GiveUp():
            drafts = await bury_stage(
                connection, image, message.stage, stage_row, failure=LOST_WORKER, now=now, headers=headers
            )
            ended, done_after = await end_if_last(connection, image, row, now=now, headers=headers)
            rows = await outbox_rows.add(connection, *drafts, *ended)
            return Refused("tries used up", ended=Ended(rows, done_after))
        case Start():
            pass
    claimed = {
        "of_image": image.id,
        "of_stage": message.stage,
        "claim": stage_row.claim + 1,
        "attempts": stage_row.attempts + 1,
        "lease_until": lease_until,
        "started_at": stage_row.started_at or now,
    }
    await statements.CLAIM.count(connection, claimed)
    if row.status == ImageStatus.PENDING:
        await statements.BEGIN_IMAGE.count(connection, {"of_image": image.id, "started_at": row.started_at or now})
    client = client_of(locked.client)
    return Claim(
        image=image,
        stage=message.stage,
        run=message.run,
        claim=stage_row.claim + 1,
        lease_until=lease_until,
        attempts=stage_row.attempts + 1,
        lane=stage_row.lane,
        object_key=row.object_key,
        size_bytes=row.size_bytes,
        format=ImageFormat(row.format),
        ocr_languages=client.pipeline.ocr_languages,
        description_language=client.pipeline.description_language,
        created_at=row.created_at,
        ai_calls_per_month=client.limits.ai_calls_per_month,
        ai_budget_policy=client.pipeline.ai_budget_policy,
    )


async def extend(db: Database, held: Claim, *, lease: timedelta) -> bool:
    """Renew a claim's lease; False where the claim is lost, and working on is in vain."""
    async with db.write(SYSTEM) as connection:
        return await statements.EXTEND.count(connection, {**mine(held), "lease_until": utc_now() + lease}) == 1


async def release(db: Database, held: Claim) -> None:
    """Give a try back that ended by trouble of ours (database, NATS, SIGTERM); a lost claim is left alone."""
    async with db.write(SYSTEM) as connection:
        await connection.execute(_given_back(held), mine(held))


async def release_unknown(db: Database, unknown: ClaimUnknown) -> None:
    """Give a try back whose claim was committed without our being told; nothing happens where it wasn't.

    Claims are numbered, so the same number may be another worker's by now; the end of the lease is ours alone.
    """
    held = unknown.attempted
    async with db.write(SYSTEM) as connection:
        await connection.execute(_given_back(held).where(image_stages.c.lease_until == held.lease_until), mine(held))


def mine(held: Claim) -> dict[str, object]:
    """Return the values of `statements.MINE`."""
    return {"of_image": held.image.id, "of_stage": held.stage, "of_run": held.run, "of_claim": held.claim}


def _given_back(held: Claim) -> sa.Update:
    status = StageStatus.PENDING if held.attempts <= 1 else StageStatus.RETRYING
    return (
        sa.update(image_stages)
        .where(*statements.MINE)
        .values(status=status, attempts=held.attempts - 1, lease_until=None)
    )
