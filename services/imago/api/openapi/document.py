"""Turns aiohttp-apispec's Swagger 2.0 document into the OpenAPI 3 document that is served.

The library emits Swagger 2.0 alone, and its forks that claim OpenAPI 3 gave invalid documents; so what the newer form
has in other places is moved there, and what the older one can't say (nullable values, media types by status, the
upload's form, the security scheme) is added.
"""

from importlib import resources
from typing import Any

import orjson

from imago import __version__

Json = dict[str, Any]

# Requests and answers by operation, recorded from a running instance; a test holds a running instance against them.
EXAMPLES: dict[str, Json] = orjson.loads((resources.files("imago.api.openapi") / "examples.json").read_bytes())

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")

_DESCRIPTION = """Imago stores images and finds out what is in them: camera, place and time, visible text, a description
and tags. Upload an image, then read its parts as its stages finish."""

# Answers that aren't JSON.
_BINARY = {"type": "string", "format": "binary"}
_MEDIA: dict[tuple[str, str], Json] = {
    ("/metrics", "200"): {"text/plain": {"schema": {"type": "string"}}},
    ("/files/signed/{token}", "200"): {"*/*": {"schema": _BINARY}},
    ("/files/signed/{token}", "206"): {"*/*": {"schema": _BINARY}},
    ("/images/events", "200"): {"text/event-stream": {"schema": {"type": "string"}}},
    ("/docs", "200"): {"text/html": {"schema": {"type": "string"}}},
    ("/docs/assets/{name}", "200"): {"*/*": {"schema": _BINARY}},
    ("/openapi.json", "200"): {"application/json": {"schema": {"type": "object"}}},
}

_UPLOAD_BODY: Json = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {**_BINARY, "description": "JPEG, PNG, GIF, WebP, TIFF, BMP, HEIC or AVIF"}},
            }
        }
    },
}

_PATH_PARAMETERS: dict[str, Json] = {
    "id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The integer id or the uuid",
        "schema": {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "format": "uuid"}]},
    },
    "key_id": {
        "name": "key_id",
        "in": "path",
        "required": True,
        "description": "The second part of a key: 8 letters and digits",
        "schema": {"type": "string", "pattern": "^[0-9A-Za-z]{8}$"},
    },
    "name": {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "token": {"name": "token", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
}


# Where the caller chooses the uuid, an integer names nothing.
_UUID_ALONE = frozenset({("put", "/auth/clients/{id}")})


def to_openapi(swagger: Json, *, public: frozenset[tuple[str, str]]) -> Json:
    """Return the OpenAPI 3.0 document; `public` are the (method, path) pairs that need no key."""
    schemas = {name: _schema(schema) for name, schema in swagger.get("definitions", {}).items()}
    return {
        "openapi": "3.0.3",
        "info": {"title": "Imago", "version": __version__, "description": _DESCRIPTION, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "security": [{"ApiKey": []}, {"Token": []}],
        "tags": [{"name": name} for name in ("images", "files", "ai", "auth", "admin", "service")],
        "paths": {
            path: {
                method: _operation(path, method, operation, public=(method, path) in public)
                for method, operation in item.items()
                if method in _METHODS
            }
            for path, item in sorted(swagger.get("paths", {}).items())
        },
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "Token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def _operation(path: str, method: str, operation: Json, *, public: bool) -> Json:
    parameters = [_parameter(item) for item in operation.get("parameters", []) if item.get("in") in ("query", "header")]
    parameters += [_path_parameter(method, path, name) for name in _PATH_PARAMETERS if f"{{{name}}}" in path]
    examples = EXAMPLES.get(f"{method.upper()} {path}", {})
    result: Json = {
        "operationId": operation.get("operationId") or _operation_id(method, path),
        "tags": operation.get("tags", []),
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "responses": {
            str(status): _response(path, str(status), answer, examples.get("responses", {}))
            for status, answer in operation["responses"].items()
        },
    }
    if parameters:
        result["parameters"] = parameters
    bodies = [item for item in operation.get("parameters", []) if item.get("in") == "body"]
    if path == "/images/upload":
        result["requestBody"] = _UPLOAD_BODY
    elif bodies:
        # A body may be left out where nothing in it is needed.
        schema = _schema(bodies[0]["schema"])
        body = {"schema": schema, **({"example": examples["request"]} if "request" in examples else {})}
        result["requestBody"] = {"required": True, "content": {"application/json": body}}
    if public:
        result["security"] = []
    return result


def _operation_id(method: str, path: str) -> str:
    words = [part.strip("{}").replace("-", "_") for part in path.split("/") if part]
    return "_".join([method, *words]) if words else f"{method}_root"


def _path_parameter(method: str, path: str, name: str) -> Json:
    if name == "id" and (method, path) in _UUID_ALONE:
        uuid = {"type": "string", "format": "uuid"}
        return {**_PATH_PARAMETERS[name], "description": "The uuid, of the caller's choice", "schema": uuid}
    return _PATH_PARAMETERS[name]


def _parameter(item: Json) -> Json:
    schema = _schema({key: value for key, value in item.items() if key not in _OUTSIDE_SCHEMA})
    result: Json = {"name": item["name"], "in": item["in"], "required": bool(item.get("required")), "schema": schema}
    if "description" in item:
        result["description"] = item["description"]
    return result


_OUTSIDE_SCHEMA = frozenset({"name", "in", "required", "description", "collectionFormat"})


def _response(path: str, status: str, answer: Json, examples: Json) -> Json:
    result: Json = {"description": answer.get("description") or "An answer."}
    if (path, status) in _MEDIA:
        result["content"] = _MEDIA[path, status]
    elif "schema" in answer:
        is_problem = answer["schema"].get("$ref", "").endswith("/Problem") or "ProblemAnswer" in str(answer["schema"])
        media = "application/problem+json" if is_problem else "application/json"
        example = {"example": examples[status]} if status in examples else {}
        result["content"] = {media: {"schema": _schema(answer["schema"]), **example}}
    return result


def _schema(schema: Any) -> Any:
    """Rewrite references and nullable values, at every depth."""
    if isinstance(schema, list):
        return [_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _schema(value) for key, value in schema.items() if key not in ("x-nullable", "$ref")}
    if "$ref" in schema:
        ref = {"$ref": schema["$ref"].replace("#/definitions/", "#/components/schemas/")}
        if not schema.get("x-nullable") and not result:
            return ref
        result["allOf"] = [ref]
    if schema.get("x-nullable"):
        result["nullable"] = True
        if isinstance(result.get("enum"), list) and None not in result["enum"]:
            result["enum"] = [*result["enum"], None]
    return result
