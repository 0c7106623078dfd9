"""Cursors of lists: opaque to clients, keys of the last row to us."""

import base64
import binascii
from typing import Any

import orjson

from imago.core.errors import Unprocessable

MAX_LIMIT = 200
DEFAULT_LIMIT = 50


def encode_cursor(key: Any) -> str:
    """Return the cursor that continues behind a key."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).rstrip(b"=").decode()


def decode_id(cursor: str | None) -> int | None:
    """Return the id that a cursor of a list of images continues below; raise Unprocessable."""
    if cursor is None:
        return None
    key = _decode(cursor)
    if isinstance(key, bool) or not isinstance(key, int) or not 0 < key < 2**63:
        raise bad_cursor()
    return key


def decode_tag(cursor: str | None) -> tuple[int, str] | None:
    """Return the count and tag that a cursor of a list of tags continues behind; raise Unprocessable."""
    if cursor is None:
        return None
    match _decode(cursor):
        case [int(count), str(tag)] if 0 <= count < 2**63 and "\0" not in tag:
            return count, tag
    raise bad_cursor()


def bad_cursor() -> Unprocessable:
    """Build the refusal of a cursor that no list gave."""
    return Unprocessable("The cursor is none that a list gave.", extra={"errors": {"cursor": ["Not a cursor."]}})


def _decode(cursor: str) -> Any:
    try:
        return orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, orjson.JSONDecodeError):
        raise bad_cursor() from None
