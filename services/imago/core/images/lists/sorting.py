"""Orders of lists other than the newest first, with keyset pagination."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import sqlalchemy as sa

from imago.core.images.lists.filters import ImageFilter, matching
from imago.db.tables import images


class SortKey(StrEnum):
    """What a list can be ordered by; `RELEVANCE` is the order of a search."""

    CREATED = "created"
    TAKEN = "taken"
    SIZE = "size"
    NAME = "name"
    RELEVANCE = "relevance"


@dataclass(frozen=True)
class Sort:
    """An order. Images with equal values are ordered by id, those without the time when they were taken come last."""

    key: SortKey
    descending: bool = False

    def __str__(self) -> str:
        return f"-{self.key}" if self.descending else str(self.key)


NEWEST = Sort(SortKey.CREATED, descending=True)
RELEVANT = Sort(SortKey.RELEVANCE)
SORTS = (*(Sort(key, down) for key in SortKey if key is not SortKey.RELEVANCE for down in (False, True)), RELEVANT)

SortValue: TypeAlias = int | str | datetime | None


@dataclass(frozen=True)
class Position:
    """The last image of a page: its value of the sort key, and its id. Images are created in the order of their ids."""

    value: SortValue
    image_id: int


def sorted_ids(
    dialect: str, client_id: int, filters: ImageFilter, sort: Sort, *, limit: int, after: Position | None
) -> sa.Select[Any]:
    """Return the query for a page's images behind a position, in their order: `id`, and the sort key's `value`."""
    value = _value(sort.key)
    conditions = matching(dialect, client_id, filters)
    if sort.key is not SortKey.TAKEN:
        return _page(value, conditions, sort, limit=limit, after=after)
    if after is not None and after.value is None:
        return _page(value, [*conditions, value.is_(None)], sort, limit=limit, after=after)
    # Each part has an index in its order; NULLS LAST in one query has none.
    known = _page(value, [*conditions, value.is_not(None)], sort, limit=limit, after=after)
    unknown = _page(value, [*conditions, value.is_(None)], sort, limit=limit, after=None)
    parts = sa.union_all(*(sa.select(part.subquery()) for part in (known, unknown))).subquery("parts")
    return sa.select(parts).order_by(*_order(parts.c.value, parts.c.id, sort)).limit(limit)


def _page(
    value: sa.ColumnElement[Any],
    conditions: list[sa.ColumnElement[bool]],
    sort: Sort,
    *,
    limit: int,
    after: Position | None,
) -> sa.Select[Any]:
    query = sa.select(images.c.id.label("id"), value.label("value")).where(*conditions)
    if after is not None:
        query = query.where(_behind(value, sort, after))
    return query.order_by(*_order(value, images.c.id, sort, nulls=False)).limit(limit)


def _value(key: SortKey) -> sa.ColumnElement[Any]:
    match key:
        case SortKey.TAKEN:
            return images.c.taken_at
        case SortKey.SIZE:
            return images.c.size_bytes
        case SortKey.NAME:
            # As in its index, which SQLite uses only if the numbers are no parameters. A cursor has these characters.
            first, count = sa.literal_column("1", sa.Integer), sa.literal_column("64", sa.Integer)
            return sa.func.substr(sa.func.lower(images.c.original_name), first, count, type_=sa.Text)
        case _:
            return images.c.id


def _behind(value: sa.ColumnElement[Any], sort: Sort, after: Position) -> sa.ColumnElement[bool]:
    ids = images.c.id < after.image_id if sort.descending else images.c.id > after.image_id
    if after.value is None or sort.key is SortKey.CREATED:
        return ids
    # A comparison of rows is a range of an index; one with OR is not.
    last = sa.tuple_(sa.literal(after.value, value.type), sa.literal(after.image_id, images.c.id.type))
    here = sa.tuple_(value, images.c.id)
    return here < last if sort.descending else here > last


def _order(
    value: sa.ColumnElement[Any], image_id: sa.ColumnElement[int], sort: Sort, *, nulls: bool = True
) -> list[sa.ColumnElement[Any]]:
    columns = [value, image_id] if sort.key is not SortKey.CREATED else [image_id]
    directed: list[sa.ColumnElement[Any]] = [column.desc() if sort.descending else column.asc() for column in columns]
    return [value.is_(None), *directed] if nulls else directed
