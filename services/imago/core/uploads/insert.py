"""What accepting an upload writes: two statements on PostgreSQL; on SQLite, whose CTEs can't write, a series of them.

Each round trip costs the API about as much as all that the statement does (docs/performance.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.search import upsert_document
from imago.core.images.search_words import document
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.outbox.drafts import Draft
from imago.core.outbox.model import HEAD_START, OutboxRow
from imago.core.outbox.rows import insert_drafts, inserted_rows
from imago.db.prepared import PreparedStatement
from imago.db.tables import client_usage, clients, image_stages, images, outbox, upload_intents

# An image's columns that its upload sets.
_IMAGE = (
    *("uuid", "client_id", "original_name", "content_type", "format", "width", "height", "frames", "size_bytes"),
    *("sha256", "duplicate_of", "object_key", "thumbnail_key", "thumbnail_type", "thumbnail_bytes"),
    *("status", "created_at", "done_at"),
)
_GIVEN = tuple(name for name in _IMAGE if name != "duplicate_of")


@dataclass(frozen=True)
class Made:
    """The row of an image; without an id where the intent is gone, or the client isn't active and has no `lane`."""

    id: int | None
    duplicate_of: int | None
    lane: str | None
    intent_ended: bool


@dataclass(frozen=True)
class Charge:
    """What an upload adds to its client's usage: `size` must fit, `kept` is added; the limits are inclusive."""

    size: int
    kept: int
    most_bytes: int
    most_images: int


# The foreign key of the new row will lock this one; locked now, so that it isn't deleted in between.
_DUPLICATE = PreparedStatement(
    sa.select(images.c.id)
    .where(images.c.client_id == sa.bindparam("client_id"), images.c.sha256 == sa.bindparam("sha256"))
    .order_by(images.c.id)
    .limit(sa.literal_column("1"))
)
_END_INTENT = PreparedStatement(sa.delete(upload_intents).where(upload_intents.c.id == sa.bindparam("intent")))
# The lane is the row's, not the cached client's: the work is published on it within the second.
_LANE = PreparedStatement(sa.select(clients.c.lane).where(clients.c.id == sa.bindparam("client_id"), clients.c.active))
_INSERT_IMAGE = PreparedStatement(sa.insert(images).returning(images.c.id), columns=_IMAGE)
_INSERT_STAGES = PreparedStatement(
    sa.insert(image_stages),
    columns=("image_id", "stage", "client_id", "status", "run", "claim", "attempts", "epoch", "lane", "done_at"),
)
_CHARGE = PreparedStatement(
    sa.update(client_usage)
    .where(
        client_usage.c.client_id == sa.bindparam("of_client"),
        client_usage.c.storage_bytes + sa.bindparam("size", type_=sa.BigInteger) <= sa.bindparam("most_bytes"),
        client_usage.c.images + 1 <= sa.bindparam("most_images", type_=sa.BigInteger),
    )
    .values(
        storage_bytes=client_usage.c.storage_bytes + sa.bindparam("kept", type_=sa.BigInteger),
        images=client_usage.c.images + 1,
    )
)


def _typed(table: sa.Table, *names: str) -> list[sa.BindParameter[object]]:
    return [sa.bindparam(name, type_=table.c[name].type) for name in names]


# The same as the four before, all or nothing: no row is made where the intent is gone or the client isn't active.
_MAKE = PreparedStatement(
    sa.text(
        f"""
        WITH ended AS (DELETE FROM upload_intents WHERE id = :intent RETURNING id),
        earliest AS (
            SELECT id FROM images WHERE images.client_id = :client_id AND images.sha256 = :sha256
            ORDER BY id LIMIT 1 FOR KEY SHARE
        ),
        owner AS (SELECT lane FROM clients WHERE id = :client_id AND active),
        made AS (
            INSERT INTO images ({", ".join(_GIVEN)}, duplicate_of)
            SELECT {", ".join(f":{name}" for name in _GIVEN)}, (SELECT id FROM earliest) FROM ended, owner
            RETURNING id, duplicate_of
        )
        SELECT made.id AS id, made.duplicate_of AS duplicate_of, (SELECT lane FROM owner) AS lane,
            EXISTS (SELECT FROM ended) AS intent_ended
        FROM (VALUES (1)) AS always LEFT JOIN made ON true
        """  # noqa: S608 - names of columns of ours
    )
    .bindparams(sa.bindparam("intent", type_=sa.BigInteger), *_typed(images, *_GIVEN))
    .columns(
        sa.column("id", sa.BigInteger),
        sa.column("duplicate_of", sa.BigInteger),
        sa.column("lane", sa.Text),
        sa.column("intent_ended", sa.Boolean),
    )
)

_LISTED = ("stages", "statuses", "kinds", "subjects", "payloads", "message_ids", "of_stages")
_FOLLOW = PreparedStatement(
    sa.text(
        """
        WITH staged AS (
            INSERT INTO image_stages
                (image_id, client_id, stage, status, run, claim, attempts, epoch, lane, done_at)
            SELECT :image_id, :client_id, stage, status, 1, 0, 0, 1, :lane,
                CASE WHEN status = 'done' THEN :created_at END
            FROM unnest(:stages, :statuses) AS planned (stage, status)
        ),
        indexed AS (
            INSERT INTO image_search (client_id, image_id, document)
            VALUES (:client_id, :image_id, to_tsvector('simple', :document))
        ),
        charged AS (
            UPDATE client_usage
            SET storage_bytes = storage_bytes + :kept, images = images + 1
            WHERE client_usage.client_id = :client_id AND storage_bytes + :size <= :most_bytes
                AND images + 1 <= :most_images
            RETURNING client_id
        ),
        queued AS (
            INSERT INTO outbox
                (client_id, kind, subject, payload, headers, message_id,
                 image_id, stage, run, epoch, created_at, due_at)
            SELECT :client_id, kind, subject, CAST(payload AS jsonb), :headers, message_id,
                CASE WHEN stage IS NOT NULL THEN :image_id END, stage, CASE WHEN stage IS NOT NULL THEN 1 END,
                CASE WHEN stage IS NOT NULL THEN 1 END, :created_at, :due_at
            FROM unnest(:kinds, :subjects, :payloads, :message_ids, :of_stages)
                AS drafted (kind, subject, payload, message_id, stage)
            RETURNING id, message_id
        )
        SELECT id, message_id, EXISTS (SELECT FROM charged) AS charged FROM queued
        """
    )
    .bindparams(
        *_typed(image_stages, "image_id", "client_id", "lane"),
        *_typed(outbox, "headers", "created_at", "due_at"),
        *(sa.bindparam(name, type_=sa.BigInteger) for name in ("kept", "size", "most_bytes", "most_images")),
        *(sa.bindparam(name, type_=sa.ARRAY(sa.Text)) for name in _LISTED),
        sa.bindparam("document", type_=sa.Text),
    )
    .columns(sa.column("id", sa.BigInteger), sa.column("message_id", sa.Text), sa.column("charged", sa.Boolean))
)


@dataclass(frozen=True)
class Following:
    """What an image brings with it: its stages (in their first run), its search document, its messages, its charge.

    The drafts are of this image and have the same headers.
    """

    image_id: int
    client_id: int
    lane: str
    name: str
    stages: Mapping[Stage, StageStatus]
    drafts: Sequence[Draft]
    charge: Charge


async def make_images(connection: AsyncConnection, rows: Sequence[Mapping[str, object]]) -> list[Made]:
    """Insert images with the columns given, each with its duplicate found and its `intent` ended; in their order."""
    if connection.dialect.name == "sqlite":
        return [await _make_image(connection, row) for row in rows]
    return [
        Made(made.id, made.duplicate_of, made.lane, made.intent_ended)
        for made in await _MAKE.fetchmany(connection, rows)
    ]


async def _make_image(connection: AsyncConnection, row: Mapping[str, object]) -> Made:
    duplicate_of = await _DUPLICATE.scalar(connection, {name: row[name] for name in ("client_id", "sha256")})
    if await _END_INTENT.execute(connection, {"intent": row["intent"]}) != 1:
        return Made(None, None, None, intent_ended=False)
    lane = await _LANE.scalar(connection, {"client_id": row["client_id"]})
    if lane is None:
        return Made(None, None, None, intent_ended=True)
    given = {name: row[name] for name in _GIVEN}
    image_id = await _INSERT_IMAGE.scalar(connection, {**given, "duplicate_of": duplicate_of})
    return Made(image_id, duplicate_of, lane, intent_ended=True)


async def add_what_follows(
    connection: AsyncConnection, images: Sequence[Following], *, now: datetime
) -> list[tuple[OutboxRow, ...] | None]:
    """Add what images bring with them; return what is to be published of each.

    It is None where the charge doesn't fit; the transaction must not be committed then.
    """
    # The charge comes last, as in every transaction: all uploads of a client at once queue up for its usage's row.
    if connection.dialect.name == "sqlite":
        return [await _follow(connection, each, now=now) for each in images]
    rows = {row.message_id: row for row in await _FOLLOW.fetchmany(connection, [_values(each, now) for each in images])}
    return [
        inserted_rows(each.drafts, [rows[draft.message_id] for draft in each.drafts])
        if rows[each.drafts[0].message_id].charged
        else None
        for each in images
    ]


def _values(image: Following, now: datetime) -> dict[str, object]:
    drafts = image.drafts
    return {
        "image_id": image.image_id,
        "client_id": image.client_id,
        "lane": image.lane,
        "created_at": now,
        "due_at": now + HEAD_START,
        "document": document(image.name),
        "stages": list(image.stages),
        "statuses": list(image.stages.values()),
        "kinds": [draft.kind for draft in drafts],
        "subjects": [None if draft.work else draft.subject for draft in drafts],
        "payloads": [orjson.dumps(draft.payload).decode() for draft in drafts],
        "message_ids": [draft.message_id for draft in drafts],
        "of_stages": [draft.work.stage if draft.work else None for draft in drafts],
        "headers": dict(drafts[0].headers),
        **_charged(image.charge),
    }


async def _follow(connection: AsyncConnection, image: Following, *, now: datetime) -> tuple[OutboxRow, ...] | None:
    fixed = {"image_id": image.image_id, "client_id": image.client_id, "lane": image.lane}
    begun = {"run": 1, "claim": 0, "attempts": 0, "epoch": 1}
    await _INSERT_STAGES.executemany(
        connection,
        [
            {**fixed, **begun, "stage": stage, "status": status, "done_at": now if status is StageStatus.DONE else None}
            for stage, status in image.stages.items()
        ],
    )
    added = await insert_drafts(connection, *image.drafts)
    await upsert_document(connection, image.client_id, image.image_id, image.name)
    charged = {"of_client": image.client_id, **_charged(image.charge)}
    return added if await _CHARGE.execute(connection, charged) == 1 else None


def _charged(charge: Charge) -> dict[str, int]:
    return {
        "size": charge.size,
        "kept": charge.kept,
        "most_bytes": charge.most_bytes,
        "most_images": charge.most_images,
    }
