"""JSON answers."""

from typing import Any

import orjson
from aiohttp import web


def json_answer(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return data as JSON."""
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json", headers=headers)
