"""Dead letters: runs that ended without a result, for an administrator to inspect and replay."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients import audit
from imago.core.clients.audit import Actor, AuditAction
from imago.core.images.changes import start_runs
from imago.core.images.locks import lock_image
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.outbox.model import OutboxRow
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, dead_letters, image_stages, images


@dataclass(frozen=True)
class DeadLetter:
    """A dead run; `replayed_at` is when its stage got a new run."""

    id: int
    client: UUID
    image_id: int
    image_uuid: UUID
    stage: Stage
    run: int
    lane: str
    attempts: int
    error_code: str
    error_text: str
    created_at: datetime
    replayed_at: datetime | None


@dataclass(frozen=True)
class LetterFilter:
    """A filter of dead letters; None matches all, and the bounds of time are inclusive."""

    client: int | UUID | None = None
    stage: Stage | None = None
    error_code: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    replayed: bool | None = None


class ReplayOutcome(StrEnum):
    """The outcome of the replay of one letter."""

    REPLAYED = "replayed"
    """The stage has a new run."""
    SKIPPED = "skipped"
    """The letter was replayed before, its stage has another run since, or its stage is disabled."""
    MISSING = "missing"
    """The letter or its image does not exist."""


async def list_letters(
    db: Database, letter_filter: LetterFilter, *, limit: int, before: int | None = None
) -> tuple[list[DeadLetter], int | None]:
    """Return a page of dead letters, the newest first, and the `before` of the next page (None on the last page)."""
    query = (
        sa.select(dead_letters, clients.c.uuid.label("client"), images.c.uuid.label("image_uuid"))
        .join(clients, clients.c.id == dead_letters.c.client_id)
        .join(images, images.c.id == dead_letters.c.image_id)
        .where(*_conditions(letter_filter))
        .order_by(dead_letters.c.id.desc())
        .limit(limit + 1)
    )
    if before is not None:
        query = query.where(dead_letters.c.id < before)
    async with db.read(SYSTEM) as connection:
        rows = (await connection.execute(query)).all()
    page = rows[:limit]
    return [_letter(row) for row in page], page[-1].id if len(rows) > limit else None


async def newest_letter(db: Database) -> int:
    """Return the id of the newest letter, or 0."""
    async with db.read(SYSTEM) as connection:
        return int(await connection.scalar(sa.select(sa.func.max(dead_letters.c.id))) or 0)


async def list_unreplayed(
    db: Database, letter_filter: LetterFilter, *, limit: int, after: int = 0, up_to: int
) -> list[int]:
    """Return ids of letters not replayed yet, the oldest first, greater than `after` and at most `up_to`."""
    query = (
        sa.select(dead_letters.c.id)
        .join(clients, clients.c.id == dead_letters.c.client_id)
        .where(*_unreplayed(letter_filter, after=after, up_to=up_to))
        .order_by(dead_letters.c.id)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        return list(await connection.scalars(query))


async def count_unreplayed(db: Database, letter_filter: LetterFilter, *, after: int, up_to: int) -> int:
    """Return how many letters `list_unreplayed` would return without a limit."""
    query = (
        sa.select(sa.func.count())
        .select_from(dead_letters)
        .join(clients, clients.c.id == dead_letters.c.client_id)
        .where(*_unreplayed(letter_filter, after=after, up_to=up_to))
    )
    async with db.read(SYSTEM) as connection:
        return int(await connection.scalar(query) or 0)


async def replay(
    db: Database, letter_id: int, *, stages_off: frozenset[Stage], headers: Mapping[str, str]
) -> tuple[ReplayOutcome, tuple[OutboxRow, ...]]:
    """Start a new run of the stage of a letter, unless the letter was replayed before; return the rows to publish."""
    async with db.write(SYSTEM) as connection:
        found = (
            await connection.execute(
                sa.select(dead_letters.c.image_id, dead_letters.c.stage).where(dead_letters.c.id == letter_id)
            )
        ).one_or_none()
        locked = None if found is None else await lock_image(connection, found.image_id)
        if found is None or locked is None:
            return ReplayOutcome.MISSING, ()
        stage = Stage(found.stage)
        if stage in stages_off or not await _is_replayable(connection, letter_id):
            return ReplayOutcome.SKIPPED, ()
        rows = await start_runs(connection, locked[0], [stage], headers=headers)
        await connection.execute(
            sa.update(dead_letters).where(dead_letters.c.id == letter_id).values(replayed_at=utc_now())
        )
        return ReplayOutcome.REPLAYED, rows


async def record_replay(db: Database, actor: Actor, details: Mapping[str, Any]) -> None:
    """Record a replay in the audit log."""
    async with db.write(SYSTEM) as connection:
        await audit.record(connection, actor, AuditAction.LETTERS_REPLAYED, details=details)


async def _is_replayable(connection: AsyncConnection, letter_id: int) -> bool:
    """Read the letter and its stage under the image's lock: another replay or a reprocess may have come first."""
    found = await connection.scalar(
        sa.select(sa.literal(1))
        .select_from(dead_letters)
        .join(
            image_stages,
            sa.and_(
                image_stages.c.image_id == dead_letters.c.image_id,
                image_stages.c.stage == dead_letters.c.stage,
                image_stages.c.run == dead_letters.c.run,
            ),
        )
        .where(
            dead_letters.c.id == letter_id,
            dead_letters.c.replayed_at.is_(None),
            image_stages.c.status == StageStatus.DEAD,
        )
    )
    return found is not None


def _unreplayed(letter_filter: LetterFilter, *, after: int, up_to: int) -> list[sa.ColumnElement[bool]]:
    return [
        *_conditions(letter_filter),
        dead_letters.c.replayed_at.is_(None),
        dead_letters.c.id > after,
        dead_letters.c.id <= up_to,
    ]


def _conditions(letter_filter: LetterFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    match letter_filter.client:
        case UUID() as uuid:
            conditions.append(clients.c.uuid == uuid)
        case int(number):
            conditions.append(clients.c.id == number)
    if letter_filter.stage is not None:
        conditions.append(dead_letters.c.stage == letter_filter.stage)
    if letter_filter.error_code is not None:
        conditions.append(dead_letters.c.error_code == letter_filter.error_code)
    if letter_filter.created_from is not None:
        conditions.append(dead_letters.c.created_at >= letter_filter.created_from)
    if letter_filter.created_to is not None:
        conditions.append(dead_letters.c.created_at <= letter_filter.created_to)
    if letter_filter.replayed is not None:
        replayed = dead_letters.c.replayed_at.is_not(None)
        conditions.append(replayed if letter_filter.replayed else ~replayed)
    return conditions


def _letter(row: sa.Row[tuple[object, ...]]) -> DeadLetter:
    return DeadLetter(
        id=row.id,
        client=row.client,
        image_id=row.image_id,
        image_uuid=row.image_uuid,
        stage=Stage(row.stage),
        run=row.run,
        lane=row.lane,
        attempts=row.attempts,
        error_code=row.error_code,
        error_text=row.error_text,
        created_at=row.created_at,
        replayed_at=row.replayed_at,
    )
