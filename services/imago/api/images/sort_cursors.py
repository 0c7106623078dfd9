"""Cursors of lists in another order than the newest first: the order, the last image's value of it, and its id."""

from datetime import datetime
from typing import Any

from imago.api.http.paging import decode_json, encode_cursor, invalid_cursor
from imago.api.http.requests import MAX_BIGINT, is_storable
from imago.core.images.lists.sorting import Position, Sort, SortKey, SortValue

_OTHER = "Invalid cursor: it must be `next_cursor` of a page with the same `sort`."


def encode_position(sort: Sort, position: Position | None) -> str | None:
    """Return the cursor of the page behind a position, or None if there is no such page."""
    if position is None:
        return None
    value = position.value.isoformat() if isinstance(position.value, datetime) else position.value
    return encode_cursor([str(sort), value, position.image_id])


def decode_position(cursor: str | None, sort: Sort) -> Position | None:
    """Return the position that a cursor of a list in this order encodes; raise Unprocessable."""
    if cursor is None:
        return None
    match decode_json(cursor):
        case [name, value, image_id] if name == str(sort) and _is_id(image_id):
            return Position(_value(sort.key, value), image_id)
    raise invalid_cursor(_OTHER)


def _is_id(value: Any) -> bool:
    # By exact types: in Python, true is an int.
    return type(value) is int and 0 < value <= MAX_BIGINT


def _value(key: SortKey, value: Any) -> SortValue:
    match key:
        case SortKey.TAKEN if value is None:
            return None
        case SortKey.TAKEN if isinstance(value, str):
            try:
                taken = datetime.fromisoformat(value)
            except ValueError:
                raise invalid_cursor(_OTHER) from None
            if taken.tzinfo is None:
                return taken
        case SortKey.NAME if isinstance(value, str) and is_storable(value):
            return value
        case SortKey.SIZE | SortKey.CREATED if type(value) is int and 0 <= value <= MAX_BIGINT:
            return value
    raise invalid_cursor(_OTHER)
