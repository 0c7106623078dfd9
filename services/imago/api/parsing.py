"""Reads the JSON of requests, for aiohttp-apispec's validation."""

from typing import Any, NoReturn

from aiohttp import web
from marshmallow import Schema, ValidationError
from webargs.aiohttpparser import AIOHTTPParser

from imago.core.errors import Problem, Unprocessable


class JsonParser(AIOHTTPParser):
    """webargs' parser, for which some bodies that nobody means are an error of the server's."""

    async def load_json(self, req: web.Request, schema: Schema) -> Any:
        """Return the JSON of a body; raise Problem."""
        try:
            return await super().load_json(req, schema)
        except (ValueError, LookupError, RecursionError):
            # A number of 5,000 digits, a charset that doesn't exist, brackets in brackets in brackets.
            raise Problem("The body is no JSON that can be read.") from None


def refuse(error: ValidationError, *_args: object, **_kwargs: object) -> NoReturn:
    """Answer what webargs refuses as a problem with the fields' errors."""
    messages: Any = error.messages
    # webargs puts the place (json, querystring) around the fields.
    if isinstance(messages, dict) and len(messages) == 1 and isinstance(next(iter(messages.values())), dict):
        messages = next(iter(messages.values()))
    raise Unprocessable("A field is missing or has a wrong value.", extra={"errors": messages})
