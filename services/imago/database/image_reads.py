"""What a client reads of its images: one, a page of a filtered list, the stages, the tags.

Pages are keyset pages over descending ids, so that a page costs the same at any depth; ids grow with time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.database.engine import Database, Scope
from imago.database.locking import ImageRef, matches
from imago.database.search import matching_ids
from imago.database.tables import image_stages, image_tags, images, stage_results
from imago.domain.problems import NotFound
from imago.domain.search import fold
from imago.domain.stages import STAGES, ImageStatus, Stage, StageStatus
from imago.domain.tags import normalize_tag


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
class ImageFilter:
    """What a list is narrowed to; None doesn't narrow. `taken_*` are camera-local, all bounds inclusive."""

    status: ImageStatus | None = None
    tag: str | None = None
    q: str | None = None
    camera: str | None = None
    taken_from: datetime | None = None
    taken_to: datetime | None = None
    has_gps: bool | None = None
    sha256: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


@dataclass(frozen=True)
class Page:
    """A page of a list, and the id below which the next one begins, or None at the end."""

    items: tuple[ImageRow, ...]
    next_before: int | None


async def get_image(db: Database, client_id: int, ref: ImageRef) -> ImageRow:
    """Return one image of a client; raise NotFound."""
    async with db.read(Scope(client_id)) as connection:
        row = await _one(connection, client_id, ref)
        results = await _results(connection, client_id, [row.id])
    return _image(row, results.get(row.id, {}))


async def get_stages(db: Database, client_id: int, ref: ImageRef) -> tuple[ImageRow, dict[Stage, StageRow]]:
    """Return one image of a client with all its stages; raise NotFound."""
    async with db.read(Scope(client_id)) as connection:
        row = await _one(connection, client_id, ref)
        stage_rows = await connection.execute(
            sa.select(image_stages).where(image_stages.c.image_id == row.id, image_stages.c.client_id == client_id)
        )
        stages = {Stage(stage.stage): _stage(stage) for stage in stage_rows}
        results = await _results(connection, client_id, [row.id])
    return _image(row, results.get(row.id, {})), {stage: stages[stage] for stage in STAGES if stage in stages}


async def list_images(
    db: Database, client_id: int, wanted: ImageFilter, *, limit: int, before: int | None = None
) -> Page:
    """Return a page of a client's images, newest first, starting below the id `before`."""
    query = sa.select(images).where(images.c.client_id == client_id)
    if before is not None:
        query = query.where(images.c.id < before)
    for condition in _conditions(wanted):
        query = query.where(condition)
    if wanted.tag is not None:
        tagged = sa.select(image_tags.c.image_id).where(
            image_tags.c.client_id == client_id, image_tags.c.tag == normalize_tag(wanted.tag)
        )
        if before is not None:
            tagged = tagged.where(image_tags.c.image_id < before)
        query = query.where(images.c.id.in_(tagged))
    if wanted.q is not None:
        found = matching_ids(db.engine.dialect.name, client_id, wanted.q)
        query = query.where(sa.false() if found is None else images.c.id.in_(found))
    query = query.order_by(images.c.id.desc()).limit(limit + 1)
    async with db.read(Scope(client_id)) as connection:
        rows = (await connection.execute(query)).all()
        shown = rows[:limit]
        results = await _results(connection, client_id, [row.id for row in shown])
    items = tuple(_image(row, results.get(row.id, {})) for row in shown)
    return Page(items, items[-1].id if len(rows) > limit else None)


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


async def _one(connection: AsyncConnection, client_id: int, ref: ImageRef) -> sa.Row[tuple[object, ...]]:
    query = sa.select(images).where(matches(ref), images.c.client_id == client_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("No such image.")
    return row


def _conditions(wanted: ImageFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.status is not None:
        conditions.append(images.c.status == wanted.status)
    if wanted.camera is not None:
        part = fold(wanted.camera)
        # Nothing but punctuation is in no camera's name, though it is empty once folded.
        conditions.append(images.c.camera.contains(part, autoescape=True) if part else sa.false())
    if wanted.taken_from is not None:
        conditions.append(images.c.taken_at >= wanted.taken_from)
    if wanted.taken_to is not None:
        conditions.append(images.c.taken_at <= wanted.taken_to)
    if wanted.has_gps is not None:
        conditions.append(images.c.has_gps.is_(wanted.has_gps))
    if wanted.sha256 is not None:
        conditions.append(images.c.sha256 == wanted.sha256)
    if wanted.created_from is not None:
        conditions.append(images.c.created_at >= wanted.created_from)
    if wanted.created_to is not None:
        conditions.append(images.c.created_at <= wanted.created_to)
    return conditions


async def _results(
    connection: AsyncConnection, client_id: int, image_ids: Sequence[int]
) -> dict[int, dict[Stage, dict[str, Any]]]:
    if not image_ids:
        return {}
    query = sa.select(stage_results.c.image_id, stage_results.c.stage, stage_results.c.data).where(
        stage_results.c.image_id.in_(image_ids),
        stage_results.c.client_id == client_id,
    )
    results: dict[int, dict[Stage, dict[str, Any]]] = {}
    for row in await connection.execute(query):
        results.setdefault(row.image_id, {})[Stage(row.stage)] = row.data
    return results


def _image(row: sa.Row[tuple[object, ...]], results: dict[Stage, dict[str, Any]]) -> ImageRow:
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
        results=results,
    )


def _stage(row: sa.Row[tuple[object, ...]]) -> StageRow:
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
