"""Documents a handler for the OpenAPI document, beside it."""

from collections.abc import Callable, Iterator
from typing import Any

from aiohttp_apispec import docs, json_schema, querystring_schema
from marshmallow import Schema

from imago.api.answer_schemas import ProblemAnswer
from imago.api.auth.permissions import ADMIN, Access, H, access_of
from imago.core.errors import (
    InternalError,
    MissingScope,
    NotATenant,
    Problem,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
    Unavailable,
)


def documented(
    *,
    tag: str,
    summary: str,
    answers: dict[int, tuple[type[Schema] | None, str]],
    problems: tuple[type[Problem], ...] = (),
    parameters: tuple[dict[str, Any], ...] = (),
) -> Callable[[H], H]:
    """Describe a handler: its answers by status, and the problems it can refuse with; goes above `needs`."""

    def describe(handler: H) -> H:
        responses: dict[int, dict[str, Any]] = {}
        for status, (schema, text) in answers.items():
            responses[status] = {"description": text, **({"schema": schema} if schema else {})}
        codes: dict[int, list[str]] = {}
        large = (RequestTooLarge,) if _reads_json(handler) else ()
        for problem in (*problems, *large, *_of_every(access_of(handler) or ADMIN)):
            codes.setdefault(problem.status, []).append(f"`{problem.code}`")
        for status, names in codes.items():
            responses[status] = {"schema": ProblemAnswer, "description": ", ".join(dict.fromkeys(names))}
        documented_handler: H = docs(
            tags=[tag],
            summary=summary,
            description=(handler.__doc__ or summary).strip(),
            responses=responses,
            parameters=list(parameters),
        )(handler)
        return documented_handler

    return describe


def _reads_json(handler: object) -> bool:
    return any(schema["location"] == "json" for schema in getattr(handler, "__schemas__", ()))


def _of_every(rule: Access) -> Iterator[type[Problem]]:
    """Give the problems that any route may answer with that asks for this."""
    yield from (Problem, RateLimited, InternalError)
    if rule.public:
        return
    yield from (Unauthenticated, Unavailable)
    if not rule.platform:
        yield NotATenant
    if rule.scope is not None:
        yield MissingScope


def reads_json(schema: type[Schema]) -> Callable[[H], H]:
    """Validate a JSON body by a schema and leave it in `request["json"]`."""

    def declare(handler: H) -> H:
        declared: H = json_schema(schema())(handler)
        return declared

    return declare


def reads_query(schema: type[Schema]) -> Callable[[H], H]:
    """Validate the query by a schema and leave it in `request["querystring"]`."""

    def declare(handler: H) -> H:
        declared: H = querystring_schema(schema())(handler)
        return declared

    return declare
