"""Pages of lists: their query parameters and cursors, which are opaque to clients and encode the last row's key."""

import base64
import binascii
from typing import Any

import orjson
from marshmallow import fields, validate

from imago.api.requests import StrictSchema, text_field
from imago.core.errors import Unprocessable

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
    key = _decode(cursor)
    if isinstance(key, bool) or not isinstance(key, int) or not 0 < key < 2**63:
        raise _invalid_cursor()
    return key


def decode_tag(cursor: str | None) -> tuple[int, str] | None:
    """Return the count and tag that a cursor of a list of tags encodes; raise Unprocessable."""
    if cursor is None:
        return None
    match _decode(cursor):
        case [int(count), str(tag)] if 0 <= count < 2**63 and "\0" not in tag:
            return count, tag
    raise _invalid_cursor()


def _decode(cursor: str) -> Any:
    try:
        return orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, orjson.JSONDecodeError):
        raise _invalid_cursor() from None


def _invalid_cursor() -> Unprocessable:
    return Unprocessable("Invalid cursor.", extra={"errors": {"cursor": ["Invalid cursor."]}})
