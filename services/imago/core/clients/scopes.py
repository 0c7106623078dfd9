"""Scopes: what a key may do."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """A permission that a route asks for."""

    IMAGES_READ = "images:read"
    IMAGES_WRITE = "images:write"
    IMAGES_DELETE = "images:delete"
    AI_USE = "ai:use"
    ADMIN = "admin"
    CLIENTS_MANAGE = "clients:manage"


TENANT_SCOPES: frozenset[Scope] = frozenset({Scope.IMAGES_READ, Scope.IMAGES_WRITE, Scope.IMAGES_DELETE, Scope.AI_USE})


def tenant_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Read scopes that a client may hold; raise ValueError on an unknown one and on those of the platform."""
    scopes = frozenset(Scope(name) for name in names)
    beyond = scopes - TENANT_SCOPES
    if beyond:
        raise ValueError(f"a client can't hold {', '.join(sorted(beyond))}")
    return scopes
