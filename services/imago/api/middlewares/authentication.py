"""Finds out who asks, and whether the route lets them."""

import hmac

from aiohttp import web
from aiohttp.web_urldispatcher import SystemRoute

from imago.api.access import Access, Handler, access_of
from imago.api.services import PRINCIPAL, Principal, services_of
from imago.database.engine import DatabaseUnavailable
from imago.domain.problems import MissingScope, NotATenant, Unauthenticated
from imago.domain.scopes import Scope


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through to its handler where its key may call it."""
    if isinstance(request.match_info.route, SystemRoute):
        # No such path or method: it says so without asking for a key.
        return await handler(request)
    rule = access_of(request.match_info.handler) or Access(admin=True, scope=Scope.ADMIN)
    if not rule.public:
        principal = await authenticated(request)
        _check(rule, principal)
        request[PRINCIPAL] = principal
    return await handler(request)


def _check(rule: Access, principal: Principal) -> None:
    if not rule.admin and principal.client is None:
        raise NotATenant("This route works on a client's own data; use a client's key.")
    if rule.scope is not None and rule.scope not in principal.scopes:
        raise MissingScope(f"The key lacks the scope {rule.scope}.", extra={"scope": str(rule.scope)})


async def still_allowed(request: web.Request) -> bool:
    """Tell whether a request that was let through would be now; for answers that last.

    While the database is away nobody is shut out: nothing says that the key was revoked.
    """
    try:
        principal = await authenticated(request)
        _check(access_of(request.match_info.handler) or Access(admin=True, scope=Scope.ADMIN), principal)
    except (Unauthenticated, NotATenant, MissingScope):
        return False
    except DatabaseUnavailable:
        return True
    return True


async def authenticated(request: web.Request) -> Principal:
    """Return who a request's key belongs to; raise Unauthenticated."""
    text = request.headers.get("X-API-Key", "")
    if not text:
        raise Unauthenticated("Send a client's key in the header X-API-Key.")
    services = services_of(request)
    admin = services.settings.admin_api_key
    if admin is not None and hmac.compare_digest(text.encode(), admin.get_secret_value().encode()):
        return Principal(None, frozenset({Scope.ADMIN}))
    stored = await services.keys.authenticate(text)
    if stored is None:
        # One answer for malformed, unknown, expired and revoked keys: which it was is nobody else's business.
        raise Unauthenticated("The key is not valid.")
    return Principal(stored.client, frozenset(stored.client.scopes), stored.key_id)
