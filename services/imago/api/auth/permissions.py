"""Permissions of routes, declared by a decorator of each handler and enforced by the authentication middleware.

A handler without a declaration can't be added to the application, so a new route can't omit it.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from imago.api.http.request_context import PRINCIPAL
from imago.core.clients.model import Client
from imago.core.clients.scopes import Scope
from imago.core.errors import NotATenant

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Handler)

_ATTRIBUTE = "__imago_permission__"


@dataclass(frozen=True)
class Permission:
    """The key that a route requires: none (`public`), a platform key, or a client's; with one of up to two scopes."""

    public: bool = False
    platform: bool = False
    scope: Scope | None = None
    or_scope: Scope | None = None

    def allows(self, scopes: Collection[Scope]) -> bool:
        """Return whether a key with these scopes may call the route."""
        return self.scope is None or self.scope in scopes or self.or_scope in scopes


PUBLIC = Permission(public=True)
ADMIN = Permission(platform=True, scope=Scope.ADMIN)
MANAGER = Permission(platform=True, scope=Scope.CLIENTS_MANAGE)
ADMIN_OR_MANAGER = Permission(platform=True, scope=Scope.ADMIN, or_scope=Scope.CLIENTS_MANAGE)
ANY_CLIENT = Permission()


def allow(permission: Permission) -> Callable[[H], H]:
    """Declare who may call a handler."""

    def declare(handler: H) -> H:
        setattr(handler, _ATTRIBUTE, permission)
        return handler

    return declare


def allow_clients(scope: Scope) -> Callable[[H], H]:
    """Declare that a handler works on a client's data and requires a scope."""
    return allow(Permission(scope=scope))


def permission_of(handler: object) -> Permission | None:
    """Return what a handler declares."""
    return getattr(handler, _ATTRIBUTE, None)


def client_of(request: web.Request) -> Client:
    """Return the client that a request was authenticated as; raise NotATenant for a platform key."""
    client = request[PRINCIPAL].client
    if client is None:
        raise platform_key_refused()
    return client


def platform_key_refused() -> NotATenant:
    """Return the error for a platform key on a route that needs a client's."""
    return NotATenant("This route works on a client's own data; use a client's key.")
