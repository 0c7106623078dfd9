"""JSON answers."""

from typing import Any

import orjson
from aiohttp import web


def json_answer(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return data as JSON; a moment in UTC is written as `times.iso_utc` does."""
    body = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
