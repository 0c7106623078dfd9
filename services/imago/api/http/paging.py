"""Pages of lists: their query parameters and cursors, which are opaque to clients and encode the last row's key."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson
from marshmallow import fields, validate

from imago.api.http.requests import MAX_BIGINT, StrictSchema, is_storable, text_field
from imago.core.errors import Unprocessable
from imago.core.images.search.pages import Hit, Tier

_MAX_LIMIT = 200
_DEFAULT_LIMIT = 50
_MAX_CURSOR = 512


class PageQuery(StrictSchema):
    """The query parameters of every list."""

    limit = fields.Integer(
        load_default=_DEFAULT_LIMIT,
        validate=validate.Range(min=1, max=_MAX_LIMIT),
        metadata={"description": "Page size"},
    )
    cursor = text_field(_MAX_CURSOR, min_length=1, metadata={"description": "`next_cursor` of the previous page"})


def encode_cursor(key: Any) -> str:
    """Return the cursor of the page after a key."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).rstrip(b"=").decode()


def next_cursor(key: Any | None) -> str | None:
    """Return the cursor of the page after a key, or None if there is no such page."""
    return None if key is None else encode_cursor(key)


def decode_id(cursor: str | None) -> int | None:
    """Return the id that a cursor encodes; raise Unprocessable."""
    if cursor is None:
        return None
    (key,) = _decode(cursor, int)
    if key == 0:
        raise invalid_cursor()
    return int(key)


def decode_tag(cursor: str | None) -> tuple[int, str] | None:
    """Return the count and tag that a cursor of a list of tags encodes; raise Unprocessable."""
    if cursor is None:
        return None
    count, tag = _decode(cursor, int, str)
    return int(count), str(tag)


def decode_hit(cursor: str | None) -> Hit | None:
    """Return the hit that a cursor of a search encodes; raise Unprocessable."""
    if cursor is None:
        return None
    tier, score, image_id = (int(number) for number in _decode(cursor, int, int, int))
    if tier not in [*Tier] or image_id == 0:
        raise invalid_cursor()
    return Hit(Tier(tier), score, image_id)


def decode_json(cursor: str) -> Any:
    """Return the key that a cursor encodes, which may be any JSON; raise Unprocessable."""
    try:
        return orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise invalid_cursor() from None


def _decode(cursor: str, *kinds: type[int] | type[str]) -> Sequence[int | str]:
    """Return the values of a cursor, one of each kind; raise Unprocessable for values that the database can't store."""
    key = decode_json(cursor)
    values = key if len(kinds) > 1 else [key]
    if not isinstance(values, list) or len(values) != len(kinds):
        raise invalid_cursor()
    # By exact types: in Python, true is an int.
    if not all(type(value) is kind and _fits(value) for value, kind in zip(values, kinds, strict=True)):
        raise invalid_cursor()
    return values


def _fits(value: int | str) -> bool:
    return 0 <= value <= MAX_BIGINT if isinstance(value, int) else is_storable(value)


def invalid_cursor(text: str = "Invalid cursor.") -> Unprocessable:
    """Return the error of a cursor that this list has not given."""
    return Unprocessable(text, extra={"errors": {"cursor": [text]}})
