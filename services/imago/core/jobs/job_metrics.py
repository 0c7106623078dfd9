"""Counts for metrics of the whole installation: open stages, ended images, dead letters, use of quotas.

They are read from the database, because a worker that is scaled to zero takes its own counters with it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from imago.core.clients.model import Client, Usage
from imago.core.clients.queries import client_from
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus
from imago.core.jobs.stream_repair import IS_OPEN
from imago.db.engine import SYSTEM, Database
from imago.db.tables import client_usage, clients, dead_letters, image_stages, images


@dataclass(frozen=True)
class OpenWork:
    """The number of open stages with the same labels, and when the oldest was published (None before that)."""

    client: str
    lane: str
    stage: Stage
    status: StageStatus
    parked: bool
    count: int
    oldest: datetime | None


@dataclass(frozen=True)
class EndedImage:
    """An image whose stages have all ended."""

    client: str
    lane: str
    status: ImageStatus
    done_at: datetime
    took: timedelta


@dataclass(frozen=True)
class DeadLetterCount:
    """The number of dead letters with the same labels."""

    client: str
    stage: Stage
    error_code: str
    count: int


async def open_work(db: Database, *, now: datetime) -> list[OpenWork]:
    """Count the open stages; `parked` ones wait in the outbox until they are due."""
    parked = sa.and_(image_stages.c.due_at.is_not(None), image_stages.c.due_at > now).label("parked")
    kind = (clients.c.name, image_stages.c.lane, image_stages.c.stage, image_stages.c.status, parked)
    query = (
        sa.select(*kind, sa.func.count(), sa.func.min(image_stages.c.published_at))
        .join(clients, clients.c.id == image_stages.c.client_id)
        .where(IS_OPEN)
        .group_by(*kind)
    )
    async with db.read(SYSTEM) as connection:
        return [
            OpenWork(name, lane, Stage(stage), StageStatus(status), bool(waits), count, oldest)
            for name, lane, stage, status, waits, count, oldest in await connection.execute(query)
        ]


async def ended_images(db: Database, *, after: datetime, until: datetime, limit: int) -> list[EndedImage]:
    """Return images that ended in (after, until], without reprocessed ones, whose age says nothing about speed."""
    reprocessed = sa.exists().where(image_stages.c.image_id == images.c.id, image_stages.c.run > 1)
    query = (
        sa.select(clients.c.name, clients.c.lane, images.c.status, images.c.created_at, images.c.done_at)
        .join(clients, clients.c.id == images.c.client_id)
        .where(images.c.done_at > after, images.c.done_at <= until, ~reprocessed)
        .order_by(images.c.done_at)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        return [
            EndedImage(name, lane, ImageStatus(status), done_at, done_at - created_at)
            for name, lane, status, created_at, done_at in await connection.execute(query)
        ]


async def dead_letters_since(db: Database, *, since: datetime) -> list[DeadLetterCount]:
    """Count the dead letters that were created after `since` and have not been replayed."""
    kind = (clients.c.name, dead_letters.c.stage, dead_letters.c.error_code)
    query = (
        sa.select(*kind, sa.func.count())
        .join(clients, clients.c.id == dead_letters.c.client_id)
        .where(dead_letters.c.created_at > since, dead_letters.c.replayed_at.is_(None))
        .group_by(*kind)
    )
    async with db.read(SYSTEM) as connection:
        return [
            DeadLetterCount(name, Stage(stage), code, count)
            for name, stage, code, count in await connection.execute(query)
        ]


async def usages(db: Database) -> list[tuple[Client, Usage]]:
    """Return the active clients with their usage."""
    query = (
        sa.select(clients, client_usage.c.storage_bytes, client_usage.c.images)
        .join(client_usage, client_usage.c.client_id == clients.c.id)
        .where(clients.c.active)
    )
    async with db.read(SYSTEM) as connection:
        return [(client_from(row), Usage(row.storage_bytes, row.images)) for row in await connection.execute(query)]
