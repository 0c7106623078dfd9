"""The state of the queues for an administrator: how much waits in each lane and stage, and of which clients."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from imago.core.jobs.stages import Stage, StageStatus
from imago.core.jobs.stream_repair import IS_OPEN
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, image_stages


@dataclass(frozen=True)
class QueuedClient:
    """A client's open runs of a stage in a lane, those in progress among them, and since when the oldest waits."""

    client: UUID
    name: str
    weight: int
    concurrency: int | None
    open: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True)
class QueueState:
    """The open runs of a stage in a lane; `clients` are those with the most work, the most first."""

    lane: str
    stage: Stage
    open: int
    running: int
    oldest: datetime | None
    clients: tuple[QueuedClient, ...]


async def queue_states(db: Database, *, now: datetime, most_clients: int) -> list[QueueState]:
    """Return the queues that have open runs, by lane and stage."""
    found: defaultdict[tuple[str, Stage], list[QueuedClient]] = defaultdict(list)
    async with db.read(SYSTEM) as connection:
        for row in await connection.execute(_by_client(now)):
            found[row.lane, Stage(row.stage)].append(
                QueuedClient(row.uuid, row.name, row.weight, row.concurrency, row.open, row.running, row.oldest)
            )
    return [_state(lane, stage, found[lane, stage], most_clients) for lane, stage in sorted(found)]


def _by_client(now: datetime) -> sa.Select[tuple[object, ...]]:
    running = sa.and_(image_stages.c.status == StageStatus.RUNNING, image_stages.c.lease_until > now)
    waits = sa.and_(
        sa.not_(sa.func.coalesce(running, sa.false())),
        sa.or_(image_stages.c.due_at.is_(None), image_stages.c.due_at <= now),
    )
    counts = (
        sa.select(
            image_stages.c.lane,
            image_stages.c.stage,
            image_stages.c.client_id,
            sa.func.count().label("open"),
            sa.func.count().filter(running).label("running"),
            sa.func.min(image_stages.c.published_at).filter(waits).label("oldest"),
        )
        .where(IS_OPEN)
        .group_by(image_stages.c.lane, image_stages.c.stage, image_stages.c.client_id)
        .subquery("counts")
    )
    columns = (clients.c.uuid, clients.c.name, clients.c.weight, clients.c.concurrency)
    return sa.select(counts, *columns).join(clients, clients.c.id == counts.c.client_id)


def _state(lane: str, stage: Stage, found: list[QueuedClient], most: int) -> QueueState:
    waiting = [each.oldest for each in found if each.oldest is not None]
    return QueueState(
        lane,
        stage,
        open=sum(each.open for each in found),
        running=sum(each.running for each in found),
        oldest=min(waiting, default=None),
        clients=tuple(sorted(found, key=lambda each: (-each.open, str(each.client)))[:most]),
    )
