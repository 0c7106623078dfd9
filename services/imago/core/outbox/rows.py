"""The outbox table: rows added in the transaction of what they announce, taken by the announcer or the relay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.jobs.stages import Stage
from imago.core.lanes.model import dead_subject, event_subject, work_subject
from imago.core.outbox.events import Event, EventName
from imago.core.outbox.model import HEAD_START, OutboxKind, OutboxRow, WorkRef
from imago.core.outbox.work_message import WorkMessage
from imago.core.times import iso_utc, utc_now
from imago.db.engine import Database
from imago.db.prepared import PreparedStatement, Row
from imago.db.tables import clients, image_stages, images, outbox


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


@dataclass(frozen=True)
class Draft:
    """A row that is not in the outbox yet; with `due_at` it waits there until then."""

    client_id: int
    kind: OutboxKind
    subject: str
    payload: dict[str, object]
    message_id: str
    headers: Mapping[str, str]
    work: WorkRef | None = None
    due_at: datetime | None = None


def work(
    image: ImageIdentity,
    stage: Stage,
    *,
    run: int,
    epoch: int,
    lane: str,
    headers: Mapping[str, str],
    due_at: datetime | None = None,
) -> Draft:
    """Draft one publication of a run."""
    message = WorkMessage(image.uuid, image.client, stage, run, epoch)
    return Draft(
        image.client_id,
        OutboxKind.WORK,
        work_subject(lane, stage, image.client),
        message.to_json(),
        message.message_id,
        headers,
        WorkRef(image.id, stage, run, epoch, lane),
        due_at,
    )


def event(
    image: ImageIdentity,
    name: EventName,
    *,
    at: datetime,
    headers: Mapping[str, str],
    stage: Stage | None = None,
    run: int | None = None,
    status: str | None = None,
) -> Draft:
    """Draft an event to the client."""
    told = Event(uuid4(), name, image.client, image.id, image.uuid, at, stage, run, status)
    subject = event_subject(image.client, image.uuid, name)
    return Draft(image.client_id, OutboxKind.EVENT, subject, told.to_json(), str(told.event_id), headers)


def dead_letter(
    image: ImageIdentity,
    stage: Stage,
    *,
    run: int,
    lane: str,
    attempts: int,
    error_code: str,
    at: datetime,
    headers: Mapping[str, str],
) -> Draft:
    """Draft the news that a run of a stage is dead."""
    payload: dict[str, object] = {
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
    return Draft(image.client_id, OutboxKind.DEAD, subject, payload, message_id, headers)


_COLUMNS = (
    *("client_id", "kind", "subject", "payload", "headers", "message_id"),
    *("image_id", "stage", "run", "epoch", "created_at", "due_at"),
)
_ADD = PreparedStatement(sa.insert(outbox).returning(outbox.c.id, outbox.c.message_id), columns=_COLUMNS)


async def add(connection: AsyncConnection, *drafts: Draft) -> tuple[OutboxRow, ...]:
    """Insert outbox rows in the transaction that they announce, in one statement."""
    if not drafts:
        return ()
    now = utc_now()
    rows = await _ADD.fetchmany(
        connection,
        [{**columns_of(draft), "created_at": now, "due_at": draft.due_at or now + HEAD_START} for draft in drafts],
    )
    return added(drafts, rows)


def columns_of(draft: Draft) -> dict[str, object]:
    """Return the columns of a draft's row but its times."""
    work = draft.work
    return {
        "client_id": draft.client_id,
        "kind": draft.kind,
        # A work row's subject is made when it is published, from the client's lane then.
        "subject": None if work else draft.subject,
        "payload": draft.payload,
        "headers": dict(draft.headers),
        "message_id": draft.message_id,
        "image_id": work.image_id if work else None,
        "stage": work.stage if work else None,
        "run": work.run if work else None,
        "epoch": work.epoch if work else None,
    }


def added(drafts: Sequence[Draft], rows: Sequence[Row]) -> tuple[OutboxRow, ...]:
    """Return what is to be published of drafts, in their order, by their rows' `id` and `message_id` in any order."""
    ids = {row.message_id: row.id for row in rows}
    return tuple(
        OutboxRow(
            ids[draft.message_id],
            draft.kind,
            draft.subject,
            draft.payload,
            dict(draft.headers),
            draft.message_id,
            draft.work,
        )
        for draft in drafts
    )


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


_LOCATE = PreparedStatement(
    sa.update(image_stages)
    .where(
        image_stages.c.image_id == sa.bindparam("of_image"),
        image_stages.c.stage == sa.bindparam("of_stage"),
        image_stages.c.run == sa.bindparam("of_run"),
        image_stages.c.epoch == sa.bindparam("of_epoch"),
    )
    .values({name: sa.bindparam(name) for name in ("lane", "stream", "sequence", "message_id", "published_at")})
)


_DELETE = PreparedStatement(sa.delete(outbox).where(outbox.c.id == sa.bindparam("row")))


async def settle(connection: AsyncConnection, published: Sequence[Published]) -> None:
    """Delete the rows from the outbox, and note where they lie in JetStream."""
    now = utc_now()
    # In the order of their ids, as `lock_rows` says.
    await _DELETE.executemany(connection, [{"row": number} for number in sorted(item.row.id for item in published)])
    located = [
        {
            "of_image": item.row.work.image_id,
            "of_stage": item.row.work.stage,
            "of_run": item.row.work.run,
            "of_epoch": item.row.work.epoch,
            "lane": item.row.work.lane,
            "stream": item.stream,
            "sequence": item.sequence,
            "message_id": item.row.message_id,
            "published_at": now,
        }
        for item in published
        if item.row.work is not None
    ]
    # A fixed order, so that two of these never wait for each other in a circle.
    located.sort(key=lambda values: (values["of_image"], values["of_stage"]))
    await _LOCATE.executemany(connection, located)


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
