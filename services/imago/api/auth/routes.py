"""Who a key is, and tokens made from it."""

from aiohttp import web

from imago.api.answers import json_answer
from imago.api.auth.permissions import ANY_CLIENT, access, client_of
from imago.api.clients import shapes as client_shapes
from imago.api.clients.answer_schemas import MeAnswer, TokenAnswer
from imago.api.clients.request_schemas import TokenBody
from imago.api.openapi.decorators import documented, reads_json
from imago.api.request_context import PRINCIPAL
from imago.api.services import AUTH, DATABASE
from imago.core.ai_usage.ledger import get_ai_usage
from imago.core.clients.queries import get_usage
from imago.core.clients.quotas import quota_json
from imago.core.clients.scopes import parse_client_scopes
from imago.core.errors import KeyNeeded, MissingScope, Unavailable, Unprocessable

routes = web.RouteTableDef()


@routes.get("/auth/me", allow_head=False)
@documented(
    tag="auth", summary="Show whose key this is", answers={200: (MeAnswer, "The client, its limits and its usage.")}
)
@access(ANY_CLIENT)
async def me(request: web.Request) -> web.Response:
    """Shows the client that the key belongs to, what it may and what it uses; thumbnails count as storage."""
    client = client_of(request)
    db = request.app[DATABASE]
    stored = await get_usage(db, client.id)
    return json_answer(
        {
            "client": {"uuid": str(client.uuid), "name": client.name},
            "plan": str(client.plan),
            "scopes": sorted(request[PRINCIPAL].scopes),
            "limits": client.limits.to_json(),
            "quota": quota_json(stored, client.limits),
            "usage": client_shapes.usage(stored, await get_ai_usage(db, client.id)),
        }
    )


@routes.post("/auth/token")
@documented(
    tag="auth",
    summary="Make a token",
    answers={201: (TokenAnswer, "A token that lives for minutes, for browsers.")},
    problems=(Unprocessable, KeyNeeded),
)
@reads_json(TokenBody)
@access(ANY_CLIENT)
async def token(request: web.Request) -> web.Response:
    """Makes a short-lived token of the key; it may no more than the key and dies with it."""
    tokens, principal, body = request.app[AUTH].tokens, request[PRINCIPAL], request["json"]
    client = client_of(request)
    if tokens is None:
        raise Unavailable("This server makes no tokens: JWT_SECRET_KEY is not set.")
    if principal.by_token or principal.key_id is None:
        # Otherwise a stolen token could be renewed for ever.
        raise KeyNeeded("A token is made with a key, not with another token.")
    held = parse_client_scopes(principal.scopes)
    scopes = parse_client_scopes(body["scopes"]) if "scopes" in body else held
    beyond = scopes - held
    if beyond:
        raise MissingScope(f"The key lacks the scope {min(beyond)}.", extra={"scope": str(min(beyond))})
    seconds = body["expires_in"]
    text = tokens.issue(client=client.uuid, key_id=principal.key_id, scopes=scopes, seconds=seconds)
    answer = {"token": text, "token_type": "Bearer", "expires_in": seconds, "scopes": sorted(scopes)}
    return json_answer(answer, status=201)
