"""What the routes work with, put together by the command line and kept in the application."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from imago.api.events import EventHub
from imago.api.keys import KeyCache
from imago.database.engine import Database
from imago.database.uploads import InlineThumbnail
from imago.domain.assistance import PageSource, TextProvider
from imago.domain.clients import Client
from imago.domain.outbox import Announcer
from imago.settings import Settings
from imago.storage.store import ObjectStore

# Raises where the part is away; what it raises is told by its type's name alone.
Check = Callable[[], Awaitable[None]]

# Makes a thumbnail of a stored original during its upload (`THUMBNAIL_MODE=inline`): original's key, thumbnail's key.
InlineThumbnailer = Callable[[str, str], Awaitable[InlineThumbnail | None]]


@dataclass(frozen=True)
class Services:
    """The parts of a running API."""

    settings: Settings
    db: Database
    store: ObjectStore
    announcer: Announcer
    keys: KeyCache
    checks: Mapping[str, Check]
    exposition: Callable[[], tuple[bytes, str]]
    texts: TextProvider
    pages: PageSource
    events: EventHub | None = None
    local_file: Callable[[str], Path] | None = None
    inline_thumbnail: InlineThumbnailer | None = None


@dataclass(frozen=True)
class Principal:
    """Who is asking: a client by one of its keys, or the platform's administrator (`client` None)."""

    client: Client | None
    scopes: frozenset[str]
    key_id: str | None = None


SERVICES = web.AppKey("services", Services)
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)


def services_of(request: web.Request) -> Services:
    """Return the parts that a request's application works with."""
    return request.config_dict[SERVICES]
