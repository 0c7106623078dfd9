"""Statements on the outbox table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.jobs.stages import Stage
from imago.core.outbox.drafts import Draft
from imago.core.outbox.model import HEAD_START, OutboxKind, OutboxRow, WorkRef
from imago.core.outbox.subjects import work_subject
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.db.prepared import PreparedStatement, Row
from imago.db.tables import clients, image_stages, outbox


@dataclass(frozen=True)
class Published:
    """A published row and its position in JetStream."""

    row: OutboxRow
    stream: str
    sequence: int


@dataclass(frozen=True)
class OutboxState:
    """The number of overdue and of parked rows, and since when the oldest overdue row is due."""

    overdue: int
    parked: int
    oldest_due_at: datetime | None


_COLUMNS = (
    *("client_id", "kind", "subject", "payload", "headers", "message_id"),
    *("image_id", "stage", "run", "epoch", "created_at", "due_at"),
)
_INSERT = PreparedStatement(sa.insert(outbox).returning(outbox.c.id, outbox.c.message_id), columns=_COLUMNS)


async def insert_drafts(connection: AsyncConnection, *drafts: Draft) -> tuple[OutboxRow, ...]:
    """Insert drafts with one statement; return their rows in the same order."""
    if not drafts:
        return ()
    now = utc_now()
    rows = await _INSERT.fetchmany(
        connection,
        [{**draft_values(draft), "created_at": now, "due_at": draft.due_at or now + HEAD_START} for draft in drafts],
    )
    return inserted_rows(drafts, rows)


def draft_values(draft: Draft) -> dict[str, object]:
    """Return the values of a draft's columns except its times."""
    work = draft.work
    return {
        "client_id": draft.client_id,
        "kind": draft.kind,
        # A work row gets its subject when it is published, from the client's lane at that time.
        "subject": None if work else draft.subject,
        "payload": draft.payload,
        "headers": dict(draft.headers),
        "message_id": draft.message_id,
        "image_id": work.image_id if work else None,
        "stage": work.stage if work else None,
        "run": work.run if work else None,
        "epoch": work.epoch if work else None,
    }


def inserted_rows(drafts: Sequence[Draft], rows: Sequence[Row]) -> tuple[OutboxRow, ...]:
    """Return the rows of drafts, in their order; `rows` have `id` and `message_id`, in any order."""
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


async def take_due_rows(connection: AsyncConnection, *, now: datetime, limit: int) -> list[OutboxRow]:
    """Lock and return due rows, the oldest first; on PostgreSQL, rows locked by another relay are skipped."""
    query = (
        sa.select(outbox, clients.c.uuid.label("client"), clients.c.lane.label("lane"))
        .join(clients, clients.c.id == outbox.c.client_id)
        .where(outbox.c.due_at <= now)
        .order_by(outbox.c.due_at, outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=outbox)
    )
    return [_outbox_row(row) for row in await connection.execute(query)]


async def lock_rows(connection: AsyncConnection, condition: sa.ColumnElement[bool]) -> None:
    """Lock rows of the outbox in the order of their ids.

    Every transaction locks in one order: images, outbox, stages, usage.
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


async def mark_published(connection: AsyncConnection, published: Sequence[Published]) -> None:
    """Delete published rows, and record the position of work messages in their stages."""
    now = utc_now()
    # In the order of `lock_rows`.
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
    # In a fixed order, so that two of these transactions do not deadlock.
    located.sort(key=lambda values: (values["of_image"], values["of_stage"]))
    await _LOCATE.executemany(connection, located)


async def postpone_rows(connection: AsyncConnection, row_ids: Sequence[int], delay: timedelta) -> None:
    """Postpone rows that could not be published, so that they do not block the others."""
    if row_ids:
        await connection.execute(sa.update(outbox).where(outbox.c.id.in_(row_ids)).values(due_at=utc_now() + delay))


async def outbox_state(db: Database) -> OutboxState:
    """Count the overdue and the parked rows."""
    now = utc_now()
    overdue = outbox.c.due_at <= now
    query = sa.select(
        sa.func.count().filter(overdue), sa.func.count().filter(~overdue), sa.func.min(outbox.c.due_at).filter(overdue)
    ).select_from(outbox)
    async with db.read() as connection:
        row = (await connection.execute(query)).one()
    return OutboxState(row[0], row[1], row[2])


def _outbox_row(row: sa.Row[tuple[object, ...]]) -> OutboxRow:
    if row.kind != OutboxKind.WORK:
        return OutboxRow(row.id, OutboxKind(row.kind), row.subject, row.payload, row.headers, row.message_id)
    stage = Stage(row.stage)
    work = WorkRef(row.image_id, stage, row.run, row.epoch, row.lane)
    subject = work_subject(row.lane, stage, row.client)
    return OutboxRow(row.id, OutboxKind.WORK, subject, row.payload, row.headers, row.message_id, work)
