"""Which part of an object a request asks for (RFC 9110, section 14): one range, or all of it."""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from multidict import CIMultiDict, CIMultiDictProxy, istr

_RANGE = istr("Range")
_IF_RANGE = istr("If-Range")

_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,30})-([0-9]{0,30})[ \t]*", re.IGNORECASE | re.ASCII)


def effective_headers(
    headers: CIMultiDictProxy[str], *, method: str, size: int, etag: str, modified: float
) -> CIMultiDict[str]:
    """Return the headers with at most one valid `Range`, which applies unconditionally.

    A range is left out if it doesn't apply, so that the answer is the whole object: of another method than GET, of
    another unit, malformed, several ranges, or with an `If-Range` that names another version. What can't be satisfied
    is kept, so that the answer is 416: a range behind the end, of no bytes, or whose end is before its start.
    """
    effective = CIMultiDict(headers)
    sent = effective.popall(_RANGE, [])
    conditions = effective.popall(_IF_RANGE, [])
    match = _ONE_RANGE.fullmatch(sent[0]) if len(sent) == 1 else None
    if method != "GET" or match is None or not any(match.groups()):
        return effective
    if all(_same_version(condition, etag, modified) for condition in conditions):
        first, last = match.groups()
        # A suffix of no bytes is not satisfiable, but would be read as all bytes.
        effective[_RANGE] = f"bytes={size}-" if not first and not int(last) else f"bytes={first}-{last}"
    return effective


def _same_version(condition: str, etag: str, modified: float) -> bool:
    """Return whether an `If-Range` names the current version: by its strong ETag, or by its exact date."""
    if condition.startswith(('"', "W/")):
        return condition == f'"{etag}"'
    try:
        date = parsedate_to_datetime(condition)
    except (ValueError, TypeError, OverflowError):
        return False
    # `Last-Modified` is in whole seconds, which aiohttp rounds up.
    return date.replace(tzinfo=date.tzinfo or UTC) == datetime.fromtimestamp(math.ceil(modified), UTC)
