"""Finds out who asks, and whether the route lets them."""

import hmac

from aiohttp import web
from aiohttp.web_urldispatcher import SystemRoute

from imago.api.auth.permissions import ADMIN, Access, Handler, access_of
from imago.api.request_context import ADDRESS_BLOCKED, PRINCIPAL, Principal
from imago.api.services import AUTH, SETTINGS
from imago.core.clients.scopes import Scope
from imago.core.errors import MissingScope, NotATenant, RateLimited, Unauthenticated
from imago.db.engine import DatabaseUnavailable
from imago.settings import Settings


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through to its handler where its key may call it."""
    if isinstance(request.match_info.route, SystemRoute) or request.method == "OPTIONS":
        # No such path or method, or a browser's preflight: it is answered without asking for a key.
        return await handler(request)
    rule = access_of(request.match_info.handler) or ADMIN
    if not rule.public:
        principal = await authenticated(request)
        _check(rule, principal)
        request[PRINCIPAL] = principal
    return await handler(request)


def _check(rule: Access, principal: Principal) -> None:
    if not rule.platform and principal.client is None:
        raise NotATenant("This route works on a client's own data; use a client's key.")
    if not rule.allows(principal.scopes):
        raise MissingScope(f"The key lacks the scope {rule.scope}.", extra={"scope": str(rule.scope)})


async def still_allowed(request: web.Request) -> bool:
    """Tell whether a request that was let through would be now; for answers that last.

    While the database is away nobody is shut out: nothing says that the key was revoked.
    """
    try:
        principal = await authenticated(request)
        _check(access_of(request.match_info.handler) or ADMIN, principal)
    except (Unauthenticated, NotATenant, MissingScope):
        return False
    except DatabaseUnavailable:
        return True
    return True


async def authenticated(request: web.Request) -> Principal:
    """Return who a request's key or token belongs to; raise Unauthenticated."""
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
        # One answer for malformed, unknown, expired and revoked keys: which it was is nobody else's business.
        raise Unauthenticated("The key is not valid.")
    return Principal(stored.client, frozenset(stored.client.scopes), stored.key_id)


def _platform(text: str, settings: Settings) -> Principal | None:
    for name, secret, scope in (
        ("admin", settings.admin_api_key, Scope.ADMIN),
        ("operator", settings.operator_api_key, Scope.CLIENTS_MANAGE),
    ):
        # A header may hold bytes that are no UTF-8; they are compared like any others.
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
    # The key behind a token is asked for each time: a token dies with its key, and its client.
    stored = await auth.keys.usable(token.key_id) if token is not None else None
    if token is None or stored is None or stored.client.uuid != token.client:
        raise Unauthenticated("The token is not valid.")
    return Principal(stored.client, frozenset(stored.client.scopes & token.scopes), stored.key_id, by_token=True)
