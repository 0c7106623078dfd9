"""Scopes: what a key may do."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """A permission that a route requires."""

    IMAGES_READ = "images:read"
    IMAGES_WRITE = "images:write"
    IMAGES_DELETE = "images:delete"
    AI_USE = "ai:use"
    ADMIN = "admin"
    CLIENTS_MANAGE = "clients:manage"


# The scopes that a client may have, and has by default; the others belong to platform keys.
CLIENT_SCOPES: frozenset[Scope] = frozenset({Scope.IMAGES_READ, Scope.IMAGES_WRITE, Scope.IMAGES_DELETE, Scope.AI_USE})


def parse_client_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of a client by their names; raise ValueError for unknown names and platform scopes."""
    scopes = frozenset(Scope(name) for name in names)
    forbidden = scopes - CLIENT_SCOPES
    if forbidden:
        raise ValueError(f"a client cannot have {', '.join(sorted(forbidden))}")
    return scopes
