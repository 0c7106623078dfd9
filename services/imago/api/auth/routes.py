"""The client of a key, and tokens issued for it."""

from aiohttp import web

from imago.api.auth.permissions import ANY_CLIENT, allow, client_of
from imago.api.auth.requests import TokenBody
from imago.api.auth.responses import MeResponse, TokenResponse, me_response, token_response
from imago.api.http.json import json_response
from imago.api.http.request_context import PRINCIPAL
from imago.api.http.services import AUTH, DATABASE
from imago.api.openapi.decorators import documented, reads_json
from imago.core.ai_usage.ledger import get_ai_usage
from imago.core.clients.queries import get_usage
from imago.core.clients.scopes import parse_client_scopes
from imago.core.errors import KeyNeeded, MissingScope, Unavailable, Unprocessable

routes = web.RouteTableDef()


@routes.get("/auth/me", allow_head=False)
@documented(
    tag="auth",
    summary="Get the client of the key",
    responses={200: (MeResponse, "The client, its limits and its usage.")},
)
@allow(ANY_CLIENT)
async def me(request: web.Request) -> web.Response:
    """Return the client that the key belongs to, its scopes, limits and usage. Thumbnails count as storage."""
    client, db = client_of(request), request.app[DATABASE]
    stored, ai = await get_usage(db, client.id), await get_ai_usage(db, client.id)
    return json_response(me_response(client, request[PRINCIPAL].scopes, stored=stored, ai=ai))


@routes.post("/auth/token")
@documented(
    tag="auth",
    summary="Issue a token",
    responses={201: (TokenResponse, "A short-lived token, for browsers.")},
    errors=(Unprocessable, KeyNeeded),
)
@reads_json(TokenBody)
@allow(ANY_CLIENT)
async def token(request: web.Request) -> web.Response:
    """Issue a short-lived token for the key, with the key's scopes or fewer. It is valid only as long as the key."""
    tokens, principal, body = request.app[AUTH].tokens, request[PRINCIPAL], request["json"]
    client = client_of(request)
    if tokens is None:
        raise Unavailable("This server issues no tokens: JWT_SECRET_KEY is not set.")
    if principal.by_token or principal.key_id is None:
        # A stolen token could be renewed forever.
        raise KeyNeeded("A token is issued for a key, not for another token.")
    held = parse_client_scopes(principal.scopes)
    scopes = parse_client_scopes(body["scopes"]) if "scopes" in body else held
    beyond = scopes - held
    if beyond:
        raise MissingScope(f"The key lacks the scope {min(beyond)}.", extra={"scope": str(min(beyond))})
    seconds = body["expires_in"]
    text = tokens.issue(client=client.uuid, key_id=principal.key_id, scopes=scopes, seconds=seconds)
    return json_response(token_response(text, scopes, expires_in=seconds), status=201)
