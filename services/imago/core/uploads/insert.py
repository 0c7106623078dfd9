"""The rows of accepted uploads.

Each statement is described once. PostgreSQL gets them combined as CTEs: a round trip costs the API about as much as the
whole statement (docs/adr/0008). SQLite has no CTEs that write, so there they run one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.full_text import insert_documents
from imago.core.images.model import ImageIdentity
from imago.core.images.text_folding import folded_document
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.outbox.drafts import Draft
from imago.core.outbox.model import HEAD_START, OutboxRow
from imago.core.outbox.rows import draft_values, inserted_rows
from imago.db.prepared import PreparedStatement
from imago.db.tables import client_usage, clients, image_stages, images, outbox, upload_intents

# The columns of an image that its upload sets, without `duplicate_of`, which the statement finds.
_IMAGE_COLUMNS = (
    *("uuid", "client_id", "original_name", "content_type", "format", "width", "height", "frames", "size_bytes"),
    *("sha256", "object_key", "thumbnail_key", "thumbnail_type", "thumbnail_bytes", "status", "created_at", "done_at"),
)


@dataclass(frozen=True)
class InsertedImage:
    """The id of a new image, the id of the first image with the same bytes, and the client's lane.

    Without an id, nothing was inserted: the intent is gone, or it was ended and the client is not active.
    """

    id: int | None
    duplicate_of: int | None
    lane: str | None
    intent_ended: bool


@dataclass(frozen=True)
class Dependents:
    """The dependents of a new image: the first runs of its stages, its search document and its outbox rows."""

    image: ImageIdentity
    lane: str
    name: str
    stages: Mapping[Stage, StageStatus]
    drafts: Sequence[Draft]


@dataclass(frozen=True)
class Charge:
    """A charge on a client's usage: `size_bytes` must fit into the limits, `added_bytes` are added."""

    size_bytes: int
    added_bytes: int
    max_bytes: int
    max_images: int


def _typed(table: sa.Table, name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=table.c[name].type)


def _bigint(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.BigInteger)


def _insert_image(*conditions: sa.ColumnElement[bool]) -> Any:
    client_id = _typed(images, "client_id")
    duplicate = images.alias("duplicate")
    duplicate_of = (
        sa.select(duplicate.c.id)
        .where(duplicate.c.client_id == client_id, duplicate.c.sha256 == _typed(images, "sha256"))
        .order_by(duplicate.c.id)
        .limit(sa.literal_column("1"))
        # The new row's foreign key locks this row, too; locked here, it is not deleted in between.
        .with_for_update(read=True, key_share=True)
        .scalar_subquery()
    )
    values = sa.select(*(_typed(images, name) for name in _IMAGE_COLUMNS), duplicate_of)
    # The lane is the stored one, not the cached client's: the work is published on it within the second.
    lane = sa.select(clients.c.lane).where(clients.c.id == client_id).scalar_subquery()
    return (
        sa.insert(images)
        .from_select(
            [*_IMAGE_COLUMNS, "duplicate_of"], values.where(clients.c.id == client_id, clients.c.active, *conditions)
        )
        .returning(images.c.id, images.c.duplicate_of, lane.label("lane"))
    )


_DELETE_INTENT = (
    sa.delete(upload_intents).where(upload_intents.c.id == _bigint("intent")).returning(upload_intents.c.id)
)


def _end_intent_and_insert_image() -> sa.Select[Any]:
    ended = _DELETE_INTENT.cte("ended")
    inserted = _insert_image(sa.exists().select_from(ended)).cte("inserted")
    always = sa.select(sa.literal_column("1")).subquery("always")
    return sa.select(
        inserted.c.id, inserted.c.duplicate_of, inserted.c.lane, sa.exists().select_from(ended).label("intent_ended")
    ).select_from(always.outerjoin(inserted, sa.true()))


_IMAGE_POSTGRES = PreparedStatement(_end_intent_and_insert_image())
_INTENT_SQLITE, _IMAGE_SQLITE = PreparedStatement(_DELETE_INTENT), PreparedStatement(_insert_image())


async def insert_images(connection: AsyncConnection, values: Sequence[Mapping[str, object]]) -> list[InsertedImage]:
    """End each upload's `intent` and insert its image, in the given order."""
    if connection.dialect.name != "sqlite":
        rows = await _IMAGE_POSTGRES.fetchmany(connection, values)
        return [InsertedImage(row.id, row.duplicate_of, row.lane, row.intent_ended) for row in rows]
    return [await _insert_image_on_sqlite(connection, each) for each in values]


async def _insert_image_on_sqlite(connection: AsyncConnection, values: Mapping[str, object]) -> InsertedImage:
    if await _INTENT_SQLITE.one_or_none(connection, values) is None:
        return InsertedImage(None, None, None, intent_ended=False)
    row = await _IMAGE_SQLITE.one_or_none(connection, values)
    if row is None:
        return InsertedImage(None, None, None, intent_ended=True)
    return InsertedImage(row.id, row.duplicate_of, row.lane, intent_ended=True)


def _json_rows(dialect: str, parameter: str, columns: Mapping[str, Any]) -> sa.Subquery | sa.TableValuedAlias:
    """Return the objects of a JSON array as rows, so that one execution inserts the rows of a whole batch."""
    array = sa.bindparam(parameter, type_=outbox.c.payload.type)
    if dialect != "sqlite":
        listed = [sa.column(name, type_) for name, type_ in columns.items()]
        return sa.func.jsonb_to_recordset(array).table_valued(*listed).render_derived(name=parameter, with_types=True)
    each = sa.func.json_each(array).table_valued("value")
    return sa.select(
        *(
            sa.func.json_extract(each.c.value, sa.literal_column(f"'$.{name}'"), type_=type_).label(name)
            for name, type_ in columns.items()
        )
    ).subquery(parameter)


def _insert_stages(dialect: str) -> sa.Insert:
    columns = ("image_id", "client_id", "stage", "status", "lane")
    rows = _json_rows(dialect, "stages", {name: image_stages.c[name].type for name in columns})
    done_at = sa.case((rows.c.status == sa.literal_column("'done'"), _typed(image_stages, "done_at")))
    first_run = {name: sa.literal_column(value, sa.Integer) for name, value in _FIRST_RUN.items()}
    return sa.insert(image_stages).from_select(
        [*columns, *first_run, "done_at"], sa.select(*(rows.c[name] for name in columns), *first_run.values(), done_at)
    )


_FIRST_RUN = {"run": "1", "claim": "0", "attempts": "0", "epoch": "1"}


def _insert_outbox(dialect: str) -> Any:
    columns = ("client_id", "kind", "subject", "payload", "headers", "message_id", "image_id", "stage", "run", "epoch")
    rows = _json_rows(dialect, "drafts", {name: outbox.c[name].type for name in columns})
    times = ("created_at", "due_at")
    return (
        sa.insert(outbox)
        .from_select(
            [*columns, *times],
            sa.select(*(rows.c[name] for name in columns), *(_typed(outbox, name) for name in times)),
        )
        .returning(outbox.c.id, outbox.c.message_id)
    )


_CHARGE = (
    sa.update(client_usage)
    .where(
        client_usage.c.client_id == sa.bindparam("of_client"),
        client_usage.c.storage_bytes <= _bigint("most_bytes"),
        client_usage.c.images <= _bigint("most_images"),
    )
    .values(
        storage_bytes=client_usage.c.storage_bytes + _bigint("added_bytes"),
        images=client_usage.c.images + _bigint("added_images"),
    )
    .returning(client_usage.c.client_id)
)
_DOCUMENT_COLUMNS = {"client_id": sa.BigInteger, "image_id": sa.BigInteger, "document": sa.Text}


def _insert_all_dependents() -> sa.Select[Any]:
    added = _insert_outbox("postgresql").cte("added")
    charged = _CHARGE.cte("charged")
    return sa.select(added.c.id, added.c.message_id, sa.exists().select_from(charged).label("charged")).add_cte(
        _insert_stages("postgresql").cte("staged"),
        insert_documents("postgresql", _json_rows("postgresql", "documents", _DOCUMENT_COLUMNS)).cte("indexed"),
    )


_DEPENDENTS_POSTGRES = PreparedStatement(_insert_all_dependents())
_STAGES_SQLITE, _DOCUMENTS_SQLITE = (
    PreparedStatement(_insert_stages("sqlite")),
    PreparedStatement(insert_documents("sqlite", _json_rows("sqlite", "documents", _DOCUMENT_COLUMNS))),
)
_OUTBOX_SQLITE, _CHARGE_SQLITE = PreparedStatement(_insert_outbox("sqlite")), PreparedStatement(_CHARGE)


async def insert_dependents(
    connection: AsyncConnection, dependents: Sequence[Dependents], charges: Sequence[Charge], *, now: datetime
) -> list[tuple[OutboxRow, ...]] | None:
    """Insert what depends on new images of one client, and charge its usage; return the outbox rows of each image.

    Return None if a charge exceeds the client's limits; the transaction must not be committed then.
    """
    drafts = [draft for each in dependents for draft in each.drafts]
    values = {
        "stages": [_stage_row(each, stage, status) for each in dependents for stage, status in each.stages.items()],
        "documents": [_document_row(each) for each in dependents],
        "drafts": [draft_values(draft) for draft in drafts],
        "created_at": now,
        "done_at": now,
        "due_at": now + HEAD_START,
        "of_client": dependents[0].image.client_id,
        **_combined(charges),
    }
    if connection.dialect.name != "sqlite":
        rows = await _DEPENDENTS_POSTGRES.fetch(connection, values)
        charged = all(row.charged for row in rows)
    else:
        await _STAGES_SQLITE.execute(connection, values)
        await _DOCUMENTS_SQLITE.execute(connection, values)
        rows = await _OUTBOX_SQLITE.fetch(connection, values)
        charged = await _CHARGE_SQLITE.one_or_none(connection, values) is not None
    if not charged:
        return None
    added = iter(inserted_rows(drafts, rows))
    return [tuple(next(added) for _ in each.drafts) for each in dependents]


def _stage_row(image: Dependents, stage: Stage, status: StageStatus) -> dict[str, object]:
    ids = {"image_id": image.image.id, "client_id": image.image.client_id}
    return {**ids, "stage": stage, "status": status, "lane": image.lane}


def _document_row(image: Dependents) -> dict[str, object]:
    ids = {"image_id": image.image.id, "client_id": image.image.client_id}
    return {**ids, "document": folded_document(image.name)}


def _combined(charges: Sequence[Charge]) -> dict[str, int]:
    """Return one charge that fits exactly if all of them fit, one after the other."""
    added, room = 0, []
    for charge in charges:
        room.append(charge.max_bytes - charge.size_bytes - added)
        added += charge.added_bytes
    return {
        "most_bytes": min(room),
        "most_images": min(charge.max_images - number for number, charge in enumerate(charges, 1)),
        "added_bytes": added,
        "added_images": len(charges),
    }
