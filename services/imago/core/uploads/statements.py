"""The statements of an acceptance, each described once (docs/adr/0008).

PostgreSQL gets them combined as CTEs: a round trip costs the API about as much as the whole statement. SQLite has no
CTEs that write, so there they run one by one.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from imago.core.images.search.full_text import insert_documents
from imago.db.prepared import PreparedStatement
from imago.db.tables import client_usage, clients, image_stages, images, outbox, upload_intents

# The columns of an image that its upload sets, without `duplicate_of`, which the statement finds.
_IMAGE_COLUMNS = (
    *("uuid", "client_id", "original_name", "content_type", "format", "width", "height", "frames", "size_bytes"),
    *("sha256", "object_key", "thumbnail_key", "thumbnail_type", "thumbnail_bytes", "status", "created_at", "done_at"),
)


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


END_INTENT_AND_INSERT_IMAGE = PreparedStatement(_end_intent_and_insert_image())
# The same on SQLite:
END_INTENT = PreparedStatement(_DELETE_INTENT)
INSERT_IMAGE = PreparedStatement(_insert_image())


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


_FIRST_RUN = {"run": "1", "claim": "0", "attempts": "0", "epoch": "1"}


def _insert_stages(dialect: str) -> sa.Insert:
    columns = ("image_id", "client_id", "stage", "status", "lane")
    rows = _json_rows(dialect, "stages", {name: image_stages.c[name].type for name in columns})
    done_at = sa.case((rows.c.status == sa.literal_column("'done'"), _typed(image_stages, "done_at")))
    first_run = {name: sa.literal_column(value, sa.Integer) for name, value in _FIRST_RUN.items()}
    ready_at = _typed(outbox, "created_at")
    return sa.insert(image_stages).from_select(
        [*columns, *first_run, "done_at", "ready_at"],
        sa.select(*(rows.c[name] for name in columns), *first_run.values(), done_at, ready_at),
    )


def _insert_documents(dialect: str) -> sa.Insert:
    columns = {"client_id": sa.BigInteger, "image_id": sa.BigInteger, "document": sa.Text}
    return insert_documents(dialect, _json_rows(dialect, "documents", columns))


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
        client_usage.c.storage_bytes <= _bigint("max_used_bytes"),
        client_usage.c.images <= _bigint("max_used_images"),
    )
    .values(
        storage_bytes=client_usage.c.storage_bytes + _bigint("added_bytes"),
        images=client_usage.c.images + _bigint("added_images"),
    )
    .returning(client_usage.c.client_id)
)


def _insert_dependents_and_charge() -> sa.Select[Any]:
    added = _insert_outbox("postgresql").cte("added")
    charged = _CHARGE.cte("charged")
    return sa.select(added.c.id, added.c.message_id, sa.exists().select_from(charged).label("charged")).add_cte(
        _insert_stages("postgresql").cte("staged"), _insert_documents("postgresql").cte("indexed")
    )


INSERT_DEPENDENTS_AND_CHARGE = PreparedStatement(_insert_dependents_and_charge())
# The same on SQLite:
INSERT_STAGES = PreparedStatement(_insert_stages("sqlite"))
INSERT_DOCUMENTS = PreparedStatement(_insert_documents("sqlite"))
INSERT_OUTBOX = PreparedStatement(_insert_outbox("sqlite"))
CHARGE = PreparedStatement(_CHARGE)
