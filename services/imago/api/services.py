"""What the routes work with, put together by the command line and kept in the application."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from imago.api.auth.key_cache import KeyCache
from imago.api.auth.local_rates import LocalRates
from imago.api.auth.tokens import Tokens
from imago.api.events.hub import EventHub
from imago.api.uploads.slots import UploadSlots
from imago.core.ai_usage.model import CallContext
from imago.core.ai_usage.text_tasks import PageSource, TextProvider
from imago.core.clients.audit_model import Actor
from imago.core.clients.gcra import Rates
from imago.core.clients.model import Client
from imago.core.images.queries import ImageReads
from imago.core.outbox.model import Announcer
from imago.core.uploads.model import InlineThumbnail
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.objects.store import ObjectStore
from imago.settings import Settings
from imago.telemetry.health import Check
from imago.telemetry.serving import Exposition

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
    rates: Rates
    uploads: Uploads
    images: ImageReads
    upload_slots: UploadSlots
    checks: Mapping[str, Check]
    exposition: Exposition
    texts: Callable[[CallContext], TextProvider]
    pages: PageSource
    events: EventHub | None = None
    local_file: Callable[[str], Path] | None = None
    inline_thumbnail: InlineThumbnailer | None = None
    tokens: Tokens | None = None
    ensure_lane: Callable[[str], Awaitable[None]] | None = None
    addresses: LocalRates = field(default_factory=LocalRates)
    move_lanes: Callable[[], None] | None = None
    wake_held: Callable[[], None] | None = None


@dataclass(frozen=True)
class Principal:
    """Who is asking: a client by one of its keys or by a token of one, or a key of the platform (`client` None)."""

    client: Client | None
    scopes: frozenset[str]
    key_id: str | None = None
    by_token: bool = False
    name: str = "client"


SERVICES = web.AppKey("services", Services)
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
ADDRESS_BLOCKED: web.RequestKey[float] = web.RequestKey("address blocked", float)
# The image that a request made, for its line in the log.
IMAGE: web.RequestKey[str] = web.RequestKey("image", str)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)


def actor_of(request: web.Request) -> Actor:
    """Return who acts, for the audit log."""
    return Actor(request[PRINCIPAL].name, request.get(REQUEST_ID))


def services_of(request: web.Request) -> Services:
    """Return the parts that a request's application works with."""
    return request.app[SERVICES]
