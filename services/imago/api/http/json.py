"""JSON responses, and fields of them that are stored as JSON."""

from dataclasses import dataclass
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class StoredJson:
    """Annotates a field whose value comes from the database as JSON, with the type that the JSON was made from.

    The OpenAPI document describes that type, which the API never decodes.
    """

    type: type

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the type that the JSON was made from."""
        return handler.generate_schema(self.type)


def json_response(data: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return data as JSON; datetimes, which are in UTC, get the suffix `Z`."""
    body = orjson.dumps(data, default=_encode, option=orjson.OPT_UTC_Z)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _encode(value: object) -> str:
    # asyncpg returns a subclass of UUID; orjson encodes only the class itself.
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
