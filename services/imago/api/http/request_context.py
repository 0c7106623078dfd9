"""Values that middlewares and handlers store in a request for one another."""

from dataclasses import dataclass

from aiohttp import web

from imago.core.clients.audit import Actor
from imago.core.clients.model import Client
from imago.core.clients.scopes import Scope


@dataclass(frozen=True)
class Principal:
    """The sender of a request: a client by one of its keys or tokens, or a platform key (`client` is None)."""

    client: Client | None
    scopes: frozenset[Scope]
    key_id: str | None = None
    by_token: bool = False
    name: str = "client"


PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
# Seconds until the sender's address may try unknown keys again.
ADDRESS_BLOCKED: web.RequestKey[float] = web.RequestKey("address blocked", float)
# The image that a request created, for the access log.
IMAGE: web.RequestKey[str] = web.RequestKey("image", str)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)


def actor_of(request: web.Request) -> Actor:
    """Return the principal as the actor of an audit record."""
    return Actor(request[PRINCIPAL].name, request.get(REQUEST_ID))
