"""What a client reads of its images: one, a page of a filtered list, the stages, the tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database.engine import Database, Scope
from imago.database.locking import ImageRef
from imago.database.page_ids import ImageFilter, page_of_ids
from imago.database.statements import Row, Statement
from imago.database.tables import Json, image_stages, image_tags, images, stage_results
from imago.database.uploads import usage
from imago.domain.clients import Usage
from imago.domain.problems import NotFound
from imago.domain.stages import STAGES, ImageStatus, Stage, StageStatus


@dataclass(frozen=True)
class StageRow:
    """Where one stage of an image stands."""

    stage: Stage
    status: StageStatus
    run: int
    attempts: int
    error_code: str | None
    error_text: str | None
    started_at: datetime | None
    done_at: datetime | None


@dataclass(frozen=True)
class ImageRow:
    """An image with the last good result of each stage, as the stage stored it."""

    id: int
    uuid: UUID
    original_name: str
    content_type: str
    format: str
    width: int
    height: int
    frames: int
    size_bytes: int
    sha256: str
    duplicate_of: int | None
    object_key: str
    thumbnail_key: str | None
    thumbnail_type: str | None
    status: ImageStatus
    created_at: datetime
    started_at: datetime | None
    done_at: datetime | None
    user_description: str | None
    user_tags: list[str] | None
    results: dict[Stage, dict[str, Any]]


@dataclass(frozen=True)
class Page:
    """A page of a list, the id below which the next one begins or None at the end, and what the client stores."""

    items: tuple[ImageRow, ...]
    next_before: int | None
    usage: Usage


_COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    images.c.id,
    images.c.uuid,
    images.c.original_name,
    images.c.content_type,
    images.c.format,
    images.c.width,
    images.c.height,
    images.c.frames,
    images.c.size_bytes,
    images.c.sha256,
    images.c.duplicate_of,
    images.c.object_key,
    images.c.thumbnail_key,
    images.c.thumbnail_type,
    images.c.status,
    images.c.created_at,
    images.c.started_at,
    images.c.done_at,
    images.c.user_description,
    images.c.user_tags,
)


async def get_image(db: Database, client_id: int, ref: ImageRef) -> ImageRow:
    """Return one image of a client; raise NotFound."""
    async with db.read(Scope(client_id)) as connection:
        return _image(await _one(connection, client_id, ref))


async def get_stages(db: Database, client_id: int, ref: ImageRef) -> tuple[ImageRow, dict[Stage, StageRow]]:
    """Return one image of a client with all its stages; raise NotFound."""
    async with db.read(Scope(client_id)) as connection:
        row = await _one(connection, client_id, ref)
        stage_rows = await _STAGES.rows(connection, {"of_image": row.id, "of_client": client_id})
        stages = {Stage(stage.stage): _stage(stage) for stage in stage_rows}
    return _image(row), {stage: stages[stage] for stage in STAGES if stage in stages}


_STAGES = Statement(
    sa.select(image_stages).where(
        image_stages.c.image_id == sa.bindparam("of_image"), image_stages.c.client_id == sa.bindparam("of_client")
    )
)


async def list_images(
    db: Database, client_id: int, wanted: ImageFilter, *, limit: int, before: int | None = None
) -> Page:
    """Return a page of a client's images, newest first, starting below the id `before`."""
    async with db.read(Scope(client_id)) as connection:
        rows = await _rows(connection, client_id, wanted, limit=limit + 1, before=before)
        used = await usage(connection, client_id)
    items = tuple(_image(row) for row in rows[:limit])
    return Page(items, items[-1].id if len(rows) > limit else None, used)


async def list_tags(
    db: Database, client_id: int, *, limit: int, after: tuple[int, str] | None = None
) -> list[tuple[str, int]]:
    """Return a client's tags with the number of images that have each, the most frequent first, then by name.

    `after` is the last pair (count, tag) of the page before; one more than `limit` is never returned.
    """
    count = sa.func.count().label("images")
    query = (
        sa.select(image_tags.c.tag, count)
        .where(image_tags.c.client_id == client_id)
        .group_by(image_tags.c.tag)
        .order_by(count.desc(), image_tags.c.tag)
        .limit(limit)
    )
    if after is not None:
        seen, tag = after
        query = query.having(sa.or_(sa.func.count() < seen, sa.and_(sa.func.count() == seen, image_tags.c.tag > tag)))
    async with db.read(Scope(client_id)) as connection:
        return [(row.tag, row.images) for row in await connection.execute(query)]


async def _one(connection: AsyncConnection, client_id: int, ref: ImageRef) -> Row:
    statement = _ONE[connection.dialect.name, isinstance(ref, UUID)]
    row = await statement.one_or_none(connection, {"ref": ref, "of_client": client_id})
    if row is None:
        raise NotFound("No such image.")
    return row


def _results(dialect: str) -> sa.Label[Any]:
    """Return the column of an image's results by stage: one round trip for both, and one value to decode."""
    if dialect == "sqlite":
        gathered = sa.func.json_group_object(stage_results.c.stage, sa.func.json(stage_results.c.data), type_=Json)
    else:
        gathered = sa.func.jsonb_object_agg(stage_results.c.stage, stage_results.c.data, type_=Json)
    query = sa.select(gathered).where(
        stage_results.c.image_id == images.c.id, stage_results.c.client_id == sa.bindparam("of_client")
    )
    return query.correlate(images).scalar_subquery().label("results")


_DIALECTS = ("postgresql", "sqlite")
_ONE = {
    (dialect, by_uuid): Statement(
        sa.select(*_COLUMNS, _results(dialect)).where(
            (images.c.uuid if by_uuid else images.c.id) == sa.bindparam("ref"),
            images.c.client_id == sa.bindparam("of_client"),
        )
    )
    for dialect in _DIALECTS
    for by_uuid in (True, False)
}


def _page(dialect: str, *, further: bool) -> Statement:
    """Build the query of a page that nothing narrows; `further` pages begin below the id `before`."""
    query = sa.select(*_COLUMNS, _results(dialect)).where(images.c.client_id == sa.bindparam("of_client"))
    if further:
        query = query.where(images.c.id < sa.bindparam("before"))
    most: sa.BindParameter[int] = sa.bindparam("most", type_=sa.Integer)
    return Statement(query.order_by(images.c.id.desc()).limit(most))


_PAGE = {(dialect, further): _page(dialect, further=further) for dialect in _DIALECTS for further in (True, False)}


async def _rows(
    connection: AsyncConnection, client_id: int, wanted: ImageFilter, *, limit: int, before: int | None
) -> Sequence[Row]:
    dialect = connection.dialect.name
    if wanted == ImageFilter():
        values: dict[str, object] = {"of_client": client_id, "most": limit}
        if before is not None:
            values["before"] = before
        return await _PAGE[dialect, before is not None].rows(connection, values)
    page = page_of_ids(dialect, client_id, wanted, limit=limit, before=before).subquery("page")
    query = sa.select(*_COLUMNS, _results(dialect)).join(page, page.c.id == images.c.id).order_by(images.c.id.desc())
    return (await connection.execute(query, {"of_client": client_id})).all()


def _image(row: Row) -> ImageRow:
    return ImageRow(
        id=row.id,
        uuid=row.uuid,
        original_name=row.original_name,
        content_type=row.content_type,
        format=row.format,
        width=row.width,
        height=row.height,
        frames=row.frames,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        duplicate_of=row.duplicate_of,
        object_key=row.object_key,
        thumbnail_key=row.thumbnail_key,
        thumbnail_type=row.thumbnail_type,
        status=ImageStatus(row.status),
        created_at=row.created_at,
        started_at=row.started_at,
        done_at=row.done_at,
        user_description=row.user_description,
        user_tags=row.user_tags,
        results={Stage(stage): data for stage, data in (row.results or {}).items()},
    )


def _stage(row: Row) -> StageRow:
    return StageRow(
        stage=Stage(row.stage),
        status=StageStatus(row.status),
        run=row.run,
        attempts=row.attempts,
        error_code=row.error_code,
        error_text=row.error_text,
        started_at=row.started_at,
        done_at=row.done_at,
    )
