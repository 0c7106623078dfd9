"""Authenticates requests by key or token, and checks the permission that the route requires."""

import hmac

from aiohttp import web
from aiohttp.web_urldispatcher import SystemRoute

from imago.api.auth.permissions import ADMIN, Handler, Permission, permission_of, platform_key_refused
from imago.api.http.request_context import ADDRESS_BLOCKED, PRINCIPAL, Principal
from imago.api.http.services import AUTH, SETTINGS
from imago.core.clients.scopes import Scope
from imago.core.errors import MissingScope, NotATenant, RateLimited, Unauthenticated
from imago.db.engine import DatabaseUnavailable
from imago.settings import Settings


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass a request to its handler if its key may call the route."""
    if isinstance(request.match_info.route, SystemRoute) or request.method == "OPTIONS":
        # An unknown path or method, or a browser's preflight, which sends no key.
        return await handler(request)
    permission = permission_of(request.match_info.handler) or ADMIN
    if not permission.public:
        principal = await authenticated(request)
        _check(permission, principal)
        request[PRINCIPAL] = principal
    return await handler(request)


def _check(permission: Permission, principal: Principal) -> None:
    if not permission.platform and principal.client is None:
        raise platform_key_refused()
    if not permission.allows(principal.scopes):
        raise MissingScope(f"The key lacks the scope {permission.scope}.", extra={"scope": str(permission.scope)})


async def still_allowed(request: web.Request) -> bool:
    """Return whether a request that was authenticated before still would be; for responses that stay open.

    While the database is unavailable the answer is yes, since nothing indicates that the key was revoked.
    """
    try:
        principal = await authenticated(request)
        _check(permission_of(request.match_info.handler) or ADMIN, principal)
    except (Unauthenticated, NotATenant, MissingScope):
        return False
    except DatabaseUnavailable:
        return True
    return True


async def authenticated(request: web.Request) -> Principal:
    """Return the principal of a request's key or token; raise Unauthenticated."""
    keys = request.app[AUTH].keys
    text = request.headers.get("X-API-Key", "")
    if not text:
        return await _by_token(request)
    platform = _platform(text, request.app[SETTINGS])
    if platform is not None:
        return platform
    blocked = request.get(ADDRESS_BLOCKED)
    if blocked is not None and not keys.knows(text):
        raise RateLimited("Too many requests without a valid key.", retry_after=blocked)
    stored = await keys.authenticate(text)
    if stored is None:
        # The same error for malformed, unknown, expired and revoked keys, so that it reveals nothing about them.
        raise Unauthenticated("The key is not valid.")
    return Principal(stored.client, frozenset(stored.client.scopes), stored.key_id)


def _platform(text: str, settings: Settings) -> Principal | None:
    for name, secret, scope in (
        ("admin", settings.admin_api_key, Scope.ADMIN),
        ("operator", settings.operator_api_key, Scope.CLIENTS_MANAGE),
    ):
        # A header may contain bytes that are not valid UTF-8.
        sent = text.encode(errors="surrogateescape")
        if secret is not None and hmac.compare_digest(sent, secret.get_secret_value().encode()):
            return Principal(None, frozenset({scope}), name=name)
    return None


async def _by_token(request: web.Request) -> Principal:
    auth = request.app[AUTH]
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthenticated("Send a client's key in the header X-API-Key, or a token as Authorization: Bearer.")
    token = auth.tokens.verify(text.strip()) if auth.tokens is not None else None
    # The key is looked up for each request, since a token is valid only as long as its key and its client.
    stored = await auth.keys.usable(token.key_id) if token is not None else None
    if token is None or stored is None or stored.client.uuid != token.client:
        raise Unauthenticated("The token is not valid.")
    return Principal(stored.client, frozenset(stored.client.scopes & token.scopes), stored.key_id, by_token=True)
