"""Builds the OpenAPI 3.1 document with apispec, from what handlers declare by decorators.

marshmallow schemas describe requests, which they also validate; the types that build responses describe them.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import orjson
from aiohttp import web
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from imago import __version__
from imago.api.auth.permissions import ADMIN, Permission, permission_of
from imago.api.http.errors import STATUSES, ProblemResponse
from imago.api.openapi.response_schemas import response_schemas
from imago.core.errors import (
    InternalError,
    MissingScope,
    NotATenant,
    Overloaded,
    Problem,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    TooMuchInFlight,
    Unauthenticated,
    Unavailable,
)

Json = dict[str, Any]

# Requests and responses by operation, recorded from a running instance; a test compares a running instance with them.
EXAMPLES: dict[str, Json] = orjson.loads((resources.files("imago.api.openapi") / "examples.json").read_bytes())

_DESCRIPTION = """Imago stores images and extracts their metadata: camera, time and place, visible text, a description
and tags. Upload an image, then read the results of its stages as they finish."""

_TAGS = ("images", "files", "ai", "auth", "admin", "service")

_PATH_PARAMETERS: Mapping[str, Json] = {
    "id": {
        "description": "The integer id or the uuid",
        "schema": {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "format": "uuid"}]},
    },
    "key_id": {
        "description": "The second part of a key: 8 letters and digits",
        "schema": {"type": "string", "pattern": "^[0-9A-Za-z]{8}$"},
    },
    "name": {"schema": {"type": "string", "minLength": 1}},
    "token": {"schema": {"type": "string", "minLength": 1}},
}


@dataclass(frozen=True)
class _Operation:
    """A documented route: `declared` is what aiohttp-apispec's decorators store."""

    method: str
    path: str
    permission: Permission
    declared: Mapping[str, Any]

    @property
    def id(self) -> str:
        words = [part.strip("{}").replace("-", "_") for part in self.path.split("/") if part]
        return "_".join([self.method, *(words or ["root"])])

    @property
    def examples(self) -> Json:
        return EXAMPLES.get(f"{self.method.upper()} {self.path}", {})

    def schema(self, location: str) -> Any:
        """Return the marshmallow schema of a part of the request, or None."""
        return next((each["schema"] for each in self.declared["schemas"] if each["location"] == location), None)


def build_document(app: web.Application) -> Json:
    """Return the OpenAPI document of an application whose routes have all been added."""
    spec = APISpec(
        "Imago",
        __version__,
        openapi_version="3.1.0",
        plugins=[MarshmallowPlugin()],
        info={"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "/"}],
        security=[{"ApiKey": []}, {"Token": []}],
        tags=[{"name": name} for name in _TAGS],
    )
    spec.components.security_scheme("ApiKey", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
    spec.components.security_scheme("Token", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    operations = sorted(_operations(app), key=lambda each: (each.path, each.method))
    references, schemas = response_schemas([ProblemResponse, *_response_types(operations)])
    for name, schema in schemas.items():
        spec.components.schema(name, schema)
    for operation in operations:
        spec.path(path=operation.path, operations={operation.method: _operation_object(operation, references)})
    return spec.to_dict()


def _operations(app: web.Application) -> Iterator[_Operation]:
    for route in app.router.routes():
        # The only place where aiohttp-apispec's decorators store what they are given; it has no function to read it.
        declared = getattr(route.handler, "__apispec__", None)
        if route.resource is not None and declared is not None:
            permission = permission_of(route.handler) or ADMIN
            yield _Operation(route.method.lower(), route.resource.canonical, permission, declared)


def _response_types(operations: Iterable[_Operation]) -> Iterator[type]:
    for operation in operations:
        for response in operation.declared["responses"].values():
            for media in response.get("content", {}).values():
                if isinstance(media["schema"], type):
                    yield media["schema"]


def _operation_object(operation: _Operation, references: Mapping[type, Json]) -> Json:
    declared = operation.declared
    result: Json = {
        "operationId": operation.id,
        "tags": declared["tags"],
        "summary": declared["summary"],
        "description": declared["description"],
        "parameters": list(_parameters(operation)),
        "responses": {
            **{
                status: _response_object(response, references, operation.examples.get("responses", {}).get(str(status)))
                for status, response in declared["responses"].items()
            },
            **_error_responses((*declared["errors"], *_middleware_errors(operation)), references[ProblemResponse]),
        },
    }
    body = _request_body(operation)
    if body is not None:
        result["requestBody"] = body
    if operation.permission.public:
        result["security"] = []
    return result


def _parameters(operation: _Operation) -> Iterator[Json]:
    query = operation.schema("querystring")
    if query is not None:
        yield {"in": "query", "schema": query}
    declared = operation.declared["parameters"]
    yield from (dict(parameter) for parameter in declared)
    names = {parameter["name"] for parameter in declared}
    for name, parameter in _PATH_PARAMETERS.items():
        if f"{{{name}}}" in operation.path and name not in names:
            yield {"name": name, "in": "path", "required": True, **parameter}


def _request_body(operation: _Operation) -> Json | None:
    schema = operation.schema("json")
    if schema is None:
        declared: Json | None = operation.declared["request_body"]
        return declared
    example = {"example": operation.examples["request"]} if "request" in operation.examples else {}
    return {
        "required": True,
        "description": inspect.getdoc(type(schema)),
        "content": {"application/json": {"schema": schema, **example}},
    }


def _response_object(response: Json, references: Mapping[type, Json], example: Any) -> Json:
    if "content" not in response:
        return response
    ((media_type, media),) = response["content"].items()
    schema = references[media["schema"]] if isinstance(media["schema"], type) else media["schema"]
    content = {"schema": schema, **({"example": example} if example is not None else {})}
    return {**response, "content": {media_type: content}}


def _error_responses(errors: Iterable[type[Problem]], schema: Json) -> dict[int, Json]:
    codes: dict[int, list[str]] = {}
    for error in dict.fromkeys(errors):
        codes.setdefault(STATUSES[error].value, []).append(f"`{error.code}`")
    return {
        status: {"description": ", ".join(names), "content": {"application/problem+json": {"schema": schema}}}
        for status, names in codes.items()
    }


def _middleware_errors(operation: _Operation) -> Iterator[type[Problem]]:
    """Yield the errors that middlewares raise for a route."""
    if operation.schema("json") is not None:
        yield from (RequestTooLarge, RequestTimeout)
    yield from (Problem, RateLimited, InternalError, TooMuchInFlight, Overloaded)
    if operation.permission.public:
        return
    yield from (Unauthenticated, Unavailable)
    if not operation.permission.platform:
        yield NotATenant
    if operation.permission.scope is not None:
        yield MissingScope
