"""Queries for a client's images: one image, a page of a filtered list, stages, and tags."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients.model import Usage
from imago.core.clients.queries import read_usage
from imago.core.concurrency.batching import BatchExecutor
from imago.core.errors import NotFound
from imago.core.images.lists.filters import ImageFilter, page_ids
from imago.core.images.lists.sorting import Position, Sort, sorted_ids
from imago.core.images.locks import ImageRef
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus
from imago.db.engine import Database, DatabaseUnavailable, RowScope
from imago.db.prepared import PreparedStatement, Row
from imago.db.tables import image_stages, image_tags, images, stage_results

MAX_COUNT = 100_000
"""The most images that a count of a filtered list goes through."""

# Larger batches are split into several transactions.
_MAX_BATCH_SIZE = 50


@dataclass(frozen=True)
class StageRow:
    """The state of one stage of an image."""

    stage: Stage
    status: StageStatus
    run: int
    attempts: int
    error_code: str | None
    error_text: str | None
    started_at: datetime | None
    done_at: datetime | None


class ImageRow(NamedTuple):
    """An image and its latest stage results, as stored JSON texts that the API passes on without parsing them.

    `exif` and `vision` are whole results; `ocr` is only the chosen reading.
    """

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
    exif: str | None
    ocr: str | None
    vision: str | None


@dataclass(frozen=True)
class Page:
    """A page of a list, the id below which the next page begins (None at the end), and the client's usage."""

    items: tuple[ImageRow, ...]
    next_before: int | None
    usage: Usage


@dataclass(frozen=True)
class SortedPage:
    """A page of a list in another order, the position behind which the next page begins, and the client's usage."""

    items: tuple[ImageRow, ...]
    next_after: Position | None
    usage: Usage


class _Status(sa.types.UserDefinedType[ImageStatus]):
    """Reads the column as an `ImageStatus` by a dictionary, in a sixteenth of the time of `ImageStatus(value)`."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str], ImageStatus]:
        return _STATUSES.__getitem__


_STATUSES = {str(status): status for status in ImageStatus}


def _columns(dialect: str) -> list[sa.ColumnElement[Any]]:
    """Return the columns of an `ImageRow`; results are read as text, so that their JSON is not parsed."""
    return [
        *(
            sa.type_coerce(images.c[name], _Status).label(name) if name == "status" else images.c[name]
            for name in ImageRow._fields
            if name in images.c
        ),
        _found(dialect, Stage.EXIF),
        _found(dialect, Stage.OCR, "chosen"),
        _found(dialect, Stage.VISION),
    ]


def _found(dialect: str, stage: Stage, part: str | None = None) -> sa.Label[str]:
    data = stage_results.c.data
    if part is None:
        text: sa.ColumnElement[str] = sa.cast(data, sa.Text)
    elif dialect == "sqlite":
        text = sa.func.json_extract(data, f"$.{part}", type_=sa.Text)
    else:
        text = data.op("->>", return_type=sa.Text)(sa.literal_column(f"'{part}'"))
    found = (
        sa.select(text)
        .where(
            stage_results.c.image_id == images.c.id,
            stage_results.c.client_id == sa.bindparam("of_client"),
            stage_results.c.stage == sa.literal_column(f"'{stage}'"),
        )
        # There is at most one. LIMIT keeps a page from failing if there were more.
        .order_by(stage_results.c.run.desc())
        .limit(sa.literal_column("1"))
    )
    return found.correlate(images).scalar_subquery().label(str(stage))


@dataclass(frozen=True)
class _One:
    client_id: int
    ref: ImageRef


@dataclass(frozen=True)
class _Newest:
    """A page without filters."""

    client_id: int
    limit: int
    before: int | None


class ImageReads:
    """Reads images and pages of images. Concurrent reads of one client share a transaction (docs/adr/0007)."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ones: BatchExecutor[_One, ImageRow] = BatchExecutor(
            self._read_ones,
            max_size=_MAX_BATCH_SIZE,
            not_retried=(DatabaseUnavailable,),
            key=lambda request: request.client_id,
        )
        self._newest: BatchExecutor[_Newest, Page] = BatchExecutor(
            self._read_newest,
            max_size=_MAX_BATCH_SIZE,
            not_retried=(DatabaseUnavailable,),
            key=lambda request: request.client_id,
        )

    async def one(self, client_id: int, ref: ImageRef) -> ImageRow:
        """Return an image of a client; raise NotFound."""
        return await self._ones.submit(_One(client_id, ref))

    async def page(self, client_id: int, filters: ImageFilter, *, limit: int, before: int | None = None) -> Page:
        """Return a page of a client's images, newest first, starting below the id `before`."""
        if filters == ImageFilter():
            return await self._newest.submit(_Newest(client_id, limit, before))
        # Not batched: other requests should not wait for a search.
        async with self._db.read(RowScope(client_id)) as connection:
            dialect = connection.dialect.name
            ids = page_ids(dialect, client_id, filters, limit=limit + 1, before=before).subquery("page")
            query = sa.select(*_columns(dialect)).join(ids, ids.c.id == images.c.id).order_by(images.c.id.desc())
            rows = [ImageRow._make(row) for row in await connection.execute(query, {"of_client": client_id})]
            return _page(rows, limit, await read_usage(connection, client_id))

    async def sorted_page(
        self, client_id: int, filters: ImageFilter, sort: Sort, *, limit: int, after: Position | None
    ) -> SortedPage:
        """Return the page of a client's images behind a position, in the order of `sort`."""
        async with self._db.read(RowScope(client_id)) as connection:
            query = sorted_ids(connection.dialect.name, client_id, filters, sort, limit=limit + 1, after=after)
            found = (await connection.execute(query)).all()
            rows = await rows_by_id(connection, client_id, [row.id for row in found[:limit]])
            last = Position(found[limit - 1].value, found[limit - 1].id) if len(found) > limit else None
            # An image may be deleted between the two queries.
            items = tuple(rows[row.id] for row in found[:limit] if row.id in rows)
            return SortedPage(items, last, await read_usage(connection, client_id))

    async def count(self, client_id: int, filters: ImageFilter) -> int:
        """Return how many of a client's images match all filters, at most `MAX_COUNT` if there are any filters."""
        async with self._db.read(RowScope(client_id)) as connection:
            if filters == ImageFilter():
                return (await read_usage(connection, client_id)).images
            ids = page_ids(connection.dialect.name, client_id, filters, limit=MAX_COUNT, before=None)
            return await connection.scalar(sa.select(sa.func.count()).select_from(ids.subquery())) or 0

    async def _read_ones(self, requests: Sequence[_One]) -> list[ImageRow | Exception]:
        client_id = requests[0].client_id
        found: dict[ImageRef, ImageRow] = {}
        async with self._db.read(RowScope(client_id)) as connection:
            for by_uuid in (False, True):
                refs = {request.ref for request in requests if isinstance(request.ref, UUID) is by_uuid}
                rows = await _ONE[connection.dialect.name, by_uuid].fetchmany(
                    connection, [{"ref": ref, "of_client": client_id} for ref in refs]
                )
                found.update((row.uuid if by_uuid else row.id, row) for row in rows)
        return [found.get(request.ref) or NotFound("No such image.") for request in requests]

    async def _read_newest(self, requests: Sequence[_Newest]) -> list[Page]:
        client_id = requests[0].client_id
        async with self._db.read(RowScope(client_id)) as connection:
            dialect = connection.dialect.name
            pages = [
                await _NEWEST[dialect, request.before is not None].fetch(
                    connection,
                    {"of_client": client_id, "most": request.limit + 1}
                    | ({} if request.before is None else {"before": request.before}),
                )
                for request in requests
            ]
            used = await read_usage(connection, client_id)
        return [_page(rows, request.limit, used) for rows, request in zip(pages, requests, strict=True)]


async def rows_by_id(connection: AsyncConnection, client_id: int, ids: Collection[int]) -> dict[int, ImageRow]:
    """Return a client's images with these ids, as far as they exist."""
    query = sa.select(*_columns(connection.dialect.name)).where(images.c.client_id == client_id, images.c.id.in_(ids))
    return {row.id: ImageRow._make(row) for row in await connection.execute(query, {"of_client": client_id})}


def _page(rows: Sequence[ImageRow], limit: int, used: Usage) -> Page:
    """Return a page from up to `limit` + 1 rows; the extra row means that another page follows."""
    items = tuple(rows[:limit])
    return Page(items, items[-1].id if len(rows) > limit else None, used)


async def get_stages(db: Database, client_id: int, ref: ImageRef) -> tuple[ImageRow, dict[Stage, StageRow]]:
    """Return one image of a client with all its stages; raise NotFound."""
    async with db.read(RowScope(client_id)) as connection:
        row = await find_image(connection, client_id, ref)
        stage_rows = await _STAGES.fetch(connection, {"of_image": row.id, "of_client": client_id})
        stages = {Stage(stage.stage): _stage(stage) for stage in stage_rows}
    return row, {stage: stages[stage] for stage in Stage if stage in stages}


_STAGES = PreparedStatement(
    sa.select(image_stages).where(
        image_stages.c.image_id == sa.bindparam("of_image"), image_stages.c.client_id == sa.bindparam("of_client")
    )
)


async def list_tags(
    db: Database, client_id: int, *, limit: int, after: tuple[int, str] | None = None
) -> list[tuple[str, int]]:
    """Return a client's tags with their number of images, by descending number and then by name, at most `limit`.

    `after` is the last pair (count, tag) of the previous page.
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
        # A cursor may name any number; without its type it would be sent as an `integer` of 32 bits.
        count_before = sa.literal(after[0], sa.BigInteger)
        query = query.having(
            sa.or_(
                sa.func.count() < count_before, sa.and_(sa.func.count() == count_before, image_tags.c.tag > after[1])
            )
        )
    async with db.read(RowScope(client_id)) as connection:
        return [(row.tag, row.images) for row in await connection.execute(query)]


async def find_image(connection: AsyncConnection, client_id: int, ref: ImageRef) -> ImageRow:
    """Return an image of a client; raise NotFound."""
    statement = _ONE[connection.dialect.name, isinstance(ref, UUID)]
    row: ImageRow | None = await statement.one_or_none(connection, {"ref": ref, "of_client": client_id})
    if row is None:
        raise NotFound("No such image.")
    return row


_DIALECTS = ("postgresql", "sqlite")
_ONE = {
    (dialect, by_uuid): PreparedStatement(
        sa.select(*_columns(dialect)).where(
            (images.c.uuid if by_uuid else images.c.id) == sa.bindparam("ref"),
            images.c.client_id == sa.bindparam("of_client"),
        ),
        row=ImageRow,
    )
    for dialect in _DIALECTS
    for by_uuid in (True, False)
}


def _newest(dialect: str, *, further: bool) -> PreparedStatement:
    """Build the query for a page without filters; `further` pages begin below the id `before`."""
    query = sa.select(*_columns(dialect)).where(images.c.client_id == sa.bindparam("of_client"))
    if further:
        query = query.where(images.c.id < sa.bindparam("before"))
    most: sa.BindParameter[int] = sa.bindparam("most", type_=sa.Integer)
    return PreparedStatement(query.order_by(images.c.id.desc()).limit(most), row=ImageRow)


_NEWEST = {(dialect, further): _newest(dialect, further=further) for dialect in _DIALECTS for further in (True, False)}


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
