"""Who may call a route: declared beside each handler, enforced by the authentication middleware.

A handler without a declaration can't be added to the application, so a new route can't forget it.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from imago.api.request_context import PRINCIPAL
from imago.core.clients.model import Client
from imago.core.clients.scopes import Scope
from imago.core.errors import NotATenant

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Handler)

_ATTRIBUTE = "__imago_access__"


@dataclass(frozen=True)
class Access:
    """What a route asks for: nothing (`public`), a key of the platform, or a client's; with a scope if one is named.

    `or_scope` opens it as well.
    """

    public: bool = False
    platform: bool = False
    scope: Scope | None = None
    or_scope: Scope | None = None

    def allows(self, scopes: Collection[str]) -> bool:
        """Tell whether these scopes open the route."""
        return self.scope is None or self.scope in scopes or (self.or_scope is not None and self.or_scope in scopes)


PUBLIC = Access(public=True)
ADMIN = Access(platform=True, scope=Scope.ADMIN)
MANAGER = Access(platform=True, scope=Scope.CLIENTS_MANAGE)
ADMIN_OR_MANAGER = Access(platform=True, scope=Scope.ADMIN, or_scope=Scope.CLIENTS_MANAGE)
ANY_CLIENT = Access()


def access(rule: Access) -> Callable[[H], H]:
    """Declare who may call a handler."""

    def declare(handler: H) -> H:
        setattr(handler, _ATTRIBUTE, rule)
        return handler

    return declare


def needs(scope: Scope) -> Callable[[H], H]:
    """Declare that a handler works on a client's data and asks for a scope."""
    return access(Access(scope=scope))


def access_of(handler: object) -> Access | None:
    """Return what a handler declares."""
    return getattr(handler, _ATTRIBUTE, None)


def client_of(request: web.Request) -> Client:
    """Return the client that asks; raise NotATenant for a key of the platform."""
    client = request[PRINCIPAL].client
    if client is None:
        raise NotATenant("This route works on a client's own data; use a client's key.")
    return client
