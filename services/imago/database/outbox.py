"""The outbox table: rows added in the transaction of what they announce, taken by the announcer or the relay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database.engine import Database
from imago.database.tables import clients, image_stages, images, outbox
from imago.domain.events import Event, EventName
from imago.domain.lanes import dead_subject, event_subject, work_subject
from imago.domain.outbox import HEAD_START, OutboxKind, OutboxRow, WorkRef
from imago.domain.stages import Stage
from imago.domain.times import iso_utc, utc_now
from imago.domain.work import WorkMessage


@dataclass(frozen=True)
class ImageIdentity:
    """Who an image is, in the database and in messages."""

    id: int
    uuid: UUID
    client_id: int
    client: UUID


@dataclass(frozen=True)
class Published:
    """Where JetStream put a row."""

    row: OutboxRow
    stream: str
    sequence: int


async def add_work(
    connection: AsyncConnection,
    image: ImageIdentity,
    stage: Stage,
    *,
    run: int,
    epoch: int,
    lane: str,
    headers: Mapping[str, str],
    due_at: datetime | None = None,
) -> OutboxRow:
    """Announce one publication of a run; with `due_at` it waits in the outbox until then."""
    message = WorkMessage(image.uuid, image.client, stage, run, epoch)
    return await _add(
        connection,
        image,
        OutboxKind.WORK,
        work_subject(lane, stage, image.client),
        message.to_json(),
        message.message_id,
        headers=headers,
        due_at=due_at,
        work=WorkRef(image.id, stage, run, epoch, lane),
    )


async def add_event(
    connection: AsyncConnection,
    image: ImageIdentity,
    name: EventName,
    *,
    at: datetime,
    headers: Mapping[str, str],
    stage: Stage | None = None,
    run: int | None = None,
    status: str | None = None,
) -> OutboxRow:
    """Announce an event to the client."""
    event = Event(uuid4(), name, image.client, image.id, image.uuid, at, stage, run, status)
    subject = event_subject(image.client, image.uuid, name)
    return await _add(
        connection, image, OutboxKind.EVENT, subject, event.to_json(), str(event.event_id), headers=headers
    )


async def add_dead_letter(
    connection: AsyncConnection,
    image: ImageIdentity,
    stage: Stage,
    *,
    run: int,
    lane: str,
    attempts: int,
    error_code: str,
    at: datetime,
    headers: Mapping[str, str],
) -> OutboxRow:
    """Announce that a run of a stage is dead."""
    payload = {
        "v": 1,
        "image": str(image.uuid),
        "client": str(image.client),
        "stage": str(stage),
        "run": run,
        "attempts": attempts,
        "error_code": error_code,
        "at": iso_utc(at),
    }
    message_id = f"{image.uuid}:{stage}:{run}:dead"
    subject = dead_subject(lane, stage, image.client)
    return await _add(connection, image, OutboxKind.DEAD, subject, payload, message_id, headers=headers)


async def _add(
    connection: AsyncConnection,
    image: ImageIdentity,
    kind: OutboxKind,
    subject: str,
    payload: dict[str, object],
    message_id: str,
    *,
    headers: Mapping[str, str],
    due_at: datetime | None = None,
    work: WorkRef | None = None,
) -> OutboxRow:
    now = utc_now()
    row_id = await connection.scalar(
        sa.insert(outbox)
        .values(
            client_id=image.client_id,
            kind=kind,
            # A work row's subject is made when it is published, from the client's lane then.
            subject=None if work else subject,
            payload=payload,
            headers=dict(headers),
            message_id=message_id,
            image_id=work.image_id if work else None,
            stage=work.stage if work else None,
            run=work.run if work else None,
            epoch=work.epoch if work else None,
            created_at=now,
            due_at=due_at or now + HEAD_START,
        )
        .returning(outbox.c.id)
    )
    return OutboxRow(int(row_id or 0), kind, subject, payload, dict(headers), message_id, work)


async def take_due(connection: AsyncConnection, *, now: datetime, limit: int) -> list[OutboxRow]:
    """Lock and return rows that are due, oldest first; rows another relay holds are passed over on PostgreSQL."""
    query = (
        sa.select(outbox, clients.c.uuid.label("client"), clients.c.lane.label("lane"))
        .join(clients, clients.c.id == outbox.c.client_id)
        .where(outbox.c.due_at <= now)
        .order_by(outbox.c.due_at, outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=outbox)
    )
    return [_row(row) for row in await connection.execute(query)]


async def lock_rows(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> None:
    """Lock rows of the outbox in the order of their ids.

    Every transaction that touches them locks in one order: the image, the outbox, the stages, the usage.
    """
    await connection.execute(sa.select(outbox.c.id).where(condition).order_by(outbox.c.id).with_for_update())


async def settle(connection: AsyncConnection, published: Sequence[Published]) -> None:
    """Note where the rows lie in JetStream, and delete them from the outbox."""
    now = utc_now()
    await lock_rows(connection, outbox.c.id.in_([item.row.id for item in published]))
    located = [item for item in published if item.row.work is not None]
    # A fixed order, so that two of these never wait for each other in a circle.
    for item in sorted(
        located, key=lambda item: (item.row.work.image_id, item.row.work.stage) if item.row.work else ()
    ):
        work = item.row.work
        if work is None:
            continue
        await connection.execute(
            sa.update(image_stages)
            .where(
                image_stages.c.image_id == work.image_id,
                image_stages.c.stage == work.stage,
                image_stages.c.run == work.run,
                image_stages.c.epoch == work.epoch,
            )
            .values(
                lane=work.lane,
                stream=item.stream,
                sequence=item.sequence,
                message_id=item.row.message_id,
                published_at=now,
            )
        )
    if published:
        await connection.execute(sa.delete(outbox).where(outbox.c.id.in_([item.row.id for item in published])))


async def discard(connection: AsyncConnection, row_ids: Sequence[int]) -> None:
    """Delete rows that need no publication any more."""
    if row_ids:
        await connection.execute(sa.delete(outbox).where(outbox.c.id.in_(row_ids)))


async def postpone(connection: AsyncConnection, row_ids: Sequence[int], delay: timedelta) -> None:
    """Leave rows that could not be published for later, so that they don't stand in the way of the others."""
    if row_ids:
        await connection.execute(sa.update(outbox).where(outbox.c.id.in_(row_ids)).values(due_at=utc_now() + delay))


@dataclass(frozen=True)
class OutboxState:
    """How much waits in the outbox, parked rows aside, and since when the oldest is overdue."""

    overdue: int
    parked: int
    oldest_due_at: datetime | None


async def state(db: Database) -> OutboxState:
    """Count what waits."""
    now = utc_now()
    overdue = outbox.c.due_at <= now
    query = sa.select(
        sa.func.count().filter(overdue), sa.func.count().filter(~overdue), sa.func.min(outbox.c.due_at).filter(overdue)
    ).select_from(outbox)
    async with db.read() as connection:
        row = (await connection.execute(query)).one()
    return OutboxState(row[0], row[1], row[2])


async def identity(connection: AsyncConnection, image_id: int) -> ImageIdentity | None:
    """Return who the image is, or None where it is gone."""
    query = (
        sa.select(images.c.id, images.c.uuid, images.c.client_id, clients.c.uuid.label("client"))
        .join(clients, clients.c.id == images.c.client_id)
        .where(images.c.id == image_id)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else ImageIdentity(row.id, row.uuid, row.client_id, row.client)


def _row(row: sa.Row[tuple[object, ...]]) -> OutboxRow:
    if row.kind != OutboxKind.WORK:
        return OutboxRow(row.id, OutboxKind(row.kind), row.subject, row.payload, row.headers, row.message_id)
    stage = Stage(row.stage)
    work = WorkRef(row.image_id, stage, row.run, row.epoch, row.lane)
    subject = work_subject(row.lane, stage, row.client)
    return OutboxRow(row.id, OutboxKind.WORK, subject, row.payload, row.headers, row.message_id, work)
