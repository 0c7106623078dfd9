"""A worker's claims: taking one, keeping it and giving it back (DESIGN, section 3, step 4).

A claim is a commit of its own with a number and a lease. What it came to is written by `database.work`, only while its
number is still the newest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.ai_usage.model import BudgetPolicy
from imago.core.clients.queries import client_of
from imago.core.images.locks import LockedStage, lock_stages
from imago.core.images.model import ImageFormat
from imago.core.jobs import statements
from imago.core.jobs.failures import PermanentFailure
from imago.core.jobs.rules import ClaimDecision, Drop, GiveUp, StageState, Start, Wait, decide_claim
from imago.core.jobs.stage_outcomes import bury_stage, end_if_last
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus
from imago.core.outbox import rows as outbox_rows
from imago.core.outbox.model import OutboxRow
from imago.core.outbox.rows import ImageIdentity
from imago.core.outbox.work_message import WorkMessage
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable
from imago.db.prepared import Row
from imago.db.tables import image_stages


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


# Two runs of one stage, side by side in one batch: the later message comes again after this.
_TWICE = timedelta(seconds=1)

LOST_WORKER = PermanentFailure("worker-lost", "Every worker that tried this stage died over it.")


@dataclass(frozen=True)
class Wanted:
    """A message's wish for a claim, and the headers of what follows from it."""

    message: WorkMessage
    headers: Mapping[str, str]

    @property
    def key(self) -> tuple[UUID, Stage]:
        """The stage that it is about."""
        return self.message.image, self.message.stage


async def claim(
    db: Database, wanted: Sequence[Wanted], *, lease: timedelta, max_tries: int
) -> list[Claim | Refused | DatabaseUnavailable]:
    """Claim the runs that messages name, in a commit of its own; return what became of each, in their order.

    Raises DatabaseUnavailable where nothing was claimed. Where nobody can tell, what was to be claimed comes as
    ClaimUnknown, and what was not as the plain DatabaseUnavailable.
    """
    claimed: list[Claim | Refused] = []
    try:
        async with db.write(SYSTEM) as connection:
            claimed = await _claim(connection, wanted, lease=lease, max_tries=max_tries)
    except DatabaseUnavailable as error:
        if not any(isinstance(each, Claim) for each in claimed):
            raise
        return [ClaimUnknown(each) if isinstance(each, Claim) else error for each in claimed]
    return list(claimed)


async def _claim(
    connection: AsyncConnection, wanted: Sequence[Wanted], *, lease: timedelta, max_tries: int
) -> list[Claim | Refused]:
    locked = await lock_stages(connection, {each.key for each in wanted})
    # Not before the lock: what is waited for it must not come off the lease.
    now = utc_now()
    decided: list[Claim | Refused] = []
    given_up: list[int] = []
    begun: dict[int, datetime] = {}
    seen: set[tuple[UUID, Stage]] = set()
    for each in wanted:
        found = locked.get(each.key)
        if found is None:
            decided.append(Refused("image gone"))
        elif each.key in seen:
            decided.append(Refused("asked for twice at once", retry_in=_TWICE))
        else:
            seen.add(each.key)
            match _decide(found.stage, each.message, now=now, max_tries=max_tries):
                case Drop(reason):
                    decided.append(Refused(reason))
                case Wait(delay):
                    decided.append(Refused("not yet", retry_in=delay))
                case GiveUp():
                    given_up.append(len(decided))
                    decided.append(Refused("tries used up"))
                case Start():
                    decided.append(_claimed(found, each.message, lease_until=now + lease))
                    if found.image.status == ImageStatus.PENDING:
                        begun[found.identity.id] = found.image.started_at or now
    await statements.CLAIM.executemany(
        connection,
        [
            {
                "of_image": held.image.id,
                "of_stage": held.stage,
                "claim": held.claim,
                "attempts": held.attempts,
                "lease_until": held.lease_until,
                "started_at": locked[held.image.uuid, held.stage].stage.started_at or now,
            }
            for held in decided
            if isinstance(held, Claim)
        ],
    )
    await statements.BEGIN_IMAGE.executemany(
        connection, [{"of_image": image, "started_at": started} for image, started in begun.items()]
    )
    for number in given_up:
        ended = await _give_up(connection, locked[wanted[number].key], wanted[number], now=now)
        decided[number] = Refused("tries used up", ended=ended)
    return decided


def _decide(stage: Row, message: WorkMessage, *, now: datetime, max_tries: int) -> ClaimDecision:
    state = StageState(StageStatus(stage.status), stage.run, stage.attempts, stage.lease_until, stage.due_at)
    return decide_claim(state, run=message.run, now=now, max_tries=max_tries)


def _claimed(found: LockedStage, message: WorkMessage, *, lease_until: datetime) -> Claim:
    row, stage_row, client = found.image, found.stage, client_of(found.client)
    return Claim(
        image=found.identity,
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


async def _give_up(connection: AsyncConnection, found: LockedStage, wanted: Wanted, *, now: datetime) -> Ended:
    image, headers = found.identity, wanted.headers
    drafts = await bury_stage(
        connection, image, wanted.message.stage, found.stage, failure=LOST_WORKER, now=now, headers=headers
    )
    ended, done_after = await end_if_last(connection, image, found.image, now=now, headers=headers)
    return Ended(await outbox_rows.add(connection, *drafts, *ended), done_after)


async def extend(db: Database, held: Claim, *, lease: timedelta) -> bool:
    """Renew a claim's lease; False where the claim is lost, and working on is in vain."""
    async with db.write(SYSTEM) as connection:
        return await statements.EXTEND.execute(connection, {**mine(held), "lease_until": utc_now() + lease}) == 1


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
