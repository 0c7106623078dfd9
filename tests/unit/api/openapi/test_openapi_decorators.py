"""A contract test of aiohttp-apispec: the document reads the attribute in which its decorators store arguments."""

from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema
from marshmallow import Schema, fields


class Body(Schema):
    name = fields.String()


async def handler(request: web.Request) -> web.Response:
    raise NotImplementedError


def test_the_decorators_store_their_arguments_in_one_attribute_of_the_handler() -> None:
    decorated: Any = json_schema(Body())(querystring_schema(Body())(handler))
    docs(summary="A summary", parameters=[{"name": "x"}], responses={200: {"description": "A response."}}, own=1)(
        decorated
    )
    stored = decorated.__apispec__
    assert decorated is handler
    assert [each["location"] for each in stored["schemas"]] == ["querystring", "json"]
    assert all(isinstance(each["schema"], Body) for each in stored["schemas"])
    assert stored["summary"] == "A summary"
    assert stored["parameters"] == [{"name": "x"}]
    assert stored["responses"] == {200: {"description": "A response."}}
    assert stored["own"] == 1
