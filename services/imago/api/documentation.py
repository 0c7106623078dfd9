"""Documents a handler for the OpenAPI document, beside it."""

from collections.abc import Callable
from typing import Any

from aiohttp_apispec import docs, json_schema, querystring_schema
from marshmallow import Schema

from imago.api.access import H, access_of
from imago.api.answer_schemas import ProblemAnswer
from imago.domain.problems import Problem


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
        rule = access_of(handler)
        listed = list(problems)
        codes: dict[int, list[str]] = {}
        for problem in listed:
            codes.setdefault(problem.status, []).append(f"`{problem.code}`")
        if rule is not None and not rule.public:
            codes.setdefault(401, ["`unauthenticated`"])
            codes.setdefault(403, ["`missing-scope`", "`not-a-tenant`"])
            if not rule.platform:
                codes.setdefault(429, []).append("`rate-limited`")
            codes.setdefault(503, ["`unavailable`"])
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
