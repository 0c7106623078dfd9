"""Decorators that declare a handler's requests and responses, with aiohttp-apispec."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp_apispec import docs, json_schema, querystring_schema
from marshmallow import Schema

from imago.api.auth.permissions import H
from imago.core.errors import Problem

# The type that builds a response, or a schema of OpenAPI where no type does.
ResponseSchema = type | Mapping[str, Any]

_READS_JSON = "__imago_reads_json__"

TEXT: Mapping[str, Any] = {"type": "string"}
BINARY: Mapping[str, Any] = {"type": "string", "format": "binary"}


def documented(
    *,
    tag: str,
    summary: str,
    responses: Mapping[int, tuple[ResponseSchema | None, str]],
    media_type: str = "application/json",
    errors: tuple[type[Problem], ...] = (),
    parameters: tuple[Mapping[str, Any], ...] = (),
    request_body: Mapping[str, Any] | None = None,
) -> Callable[[H], H]:
    """Describe a handler: its responses by status, with their type and a description, and the errors that it raises.

    The errors that middlewares raise are added to the document, not here. `parameters` are those without a schema.
    """

    def describe(handler: H) -> H:
        described: H = docs(
            tags=[tag],
            summary=summary,
            description=inspect.getdoc(handler),
            responses={status: _response(text, media_type, schema) for status, (schema, text) in responses.items()},
            errors=errors,
            parameters=list(parameters),
            request_body=request_body,
        )(handler)
        return described

    return describe


def reads_json(schema: type[Schema]) -> Callable[[H], H]:
    """Validate a JSON body by a schema and store it in `request["json"]`."""

    def declare(handler: H) -> H:
        declared: H = json_schema(schema())(handler)
        setattr(declared, _READS_JSON, True)
        return declared

    return declare


def json_is_read(handler: object) -> bool:
    """Return whether a handler reads a JSON body."""
    return getattr(handler, _READS_JSON, False)


def reads_query(schema: type[Schema]) -> Callable[[H], H]:
    """Validate the query by a schema and store it in `request["querystring"]`."""

    def declare(handler: H) -> H:
        declared: H = querystring_schema(schema())(handler)
        return declared

    return declare


def _response(description: str, media_type: str, schema: ResponseSchema | None) -> dict[str, Any]:
    content = {} if schema is None else {"content": {media_type: {"schema": schema}}}
    return {"description": description, **content}
