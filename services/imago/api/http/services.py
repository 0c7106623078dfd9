"""The parts of a running API, in groups by the routes that use them; each group has its own key in the application."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aiohttp import web

from imago.api.auth.key_cache import KeyCache
from imago.api.auth.local_rates import LocalRates
from imago.api.auth.tokens import Tokens
from imago.api.events.hub import EventHub
from imago.api.uploads.slots import UploadSlots
from imago.core.ai_usage.model import CallContext
from imago.core.ai_usage.text_tasks import PageSource, TextProvider
from imago.core.clients.gcra import Rates
from imago.core.images.queries import ImageReads
from imago.core.images.search.pages import ImageSearch
from imago.core.outbox.model import OutboxPublisher
from imago.core.uploads.model import InlineThumbnail
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.nats.lag import QueueLag
from imago.objects.store import ObjectStore
from imago.runtime.shares import FairShares
from imago.settings import Settings
from imago.telemetry.health import Check
from imago.telemetry.serving import Exposition


class InlineThumbnailer(Protocol):
    """Makes the thumbnail of a stored original during its upload (`THUMBNAIL_MODE=inline`)."""

    async def __call__(self, original: str, target: str, *, client: int, pixels: int) -> InlineThumbnail | None:
        """Store the thumbnail under the key `target`; return None if it can't be made."""


@dataclass(frozen=True)
class AuthServices:
    """The parts that authenticate and limit requests; without `tokens` the server issues none."""

    keys: KeyCache
    client_rates: Rates
    address_rates: LocalRates = field(default_factory=LocalRates)
    tokens: Tokens | None = None


@dataclass(frozen=True)
class ClientServices:
    """The actions that a change of a client triggers: create its lane's stream, move its work, wake parked work.

    `ocr_languages` are those that a client may choose; empty allows every language that Tesseract has.
    """

    ensure_lane: Callable[[str], Awaitable[None]] | None = None
    move_lanes: Callable[[], None] | None = None
    wake_parked: Callable[[], None] | None = None
    ocr_languages: Collection[str] = ()


@dataclass(frozen=True)
class UploadServices:
    """The parts that accept uploads."""

    settings: Settings
    db: Database
    store: ObjectStore
    outbox_publisher: OutboxPublisher
    uploads: Uploads
    slots: UploadSlots
    inline_thumbnail: InlineThumbnailer | None = None


@dataclass(frozen=True)
class AiServices:
    """The parts of the AI routes: the text provider of a call, and the source of web pages."""

    texts: Callable[[CallContext], TextProvider]
    pages: PageSource


@dataclass(frozen=True)
class HealthServices:
    """The checks, metrics and work queues that the health routes report."""

    checks: Mapping[str, Check]
    exposition: Exposition
    queues: Callable[[], Awaitable[list[QueueLag]]]


SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
STORE: web.AppKey[ObjectStore] = web.AppKey("store")
OUTBOX_PUBLISHER: web.AppKey[OutboxPublisher] = web.AppKey("outbox_publisher")
AUTH = web.AppKey("auth", AuthServices)
CLIENTS = web.AppKey("clients", ClientServices)
UPLOADS = web.AppKey("uploads", UploadServices)
IMAGES = web.AppKey("images", ImageReads)
SEARCH = web.AppKey("search", ImageSearch)
AI = web.AppKey("ai", AiServices)
HEALTH = web.AppKey("health", HealthServices)
# Absent where the process serves no events.
EVENTS = web.AppKey("events", EventHub)
# The path of an object by its key, None if there is none; absent where objects are not local files.
LOCAL_FILE: web.AppKey[Callable[[str], Path | None]] = web.AppKey("local_file")


@dataclass(frozen=True)
class Services:
    """Everything that `build_app` needs; a route reads only its group, from the application."""

    settings: Settings
    db: Database
    store: ObjectStore
    outbox_publisher: OutboxPublisher
    auth: AuthServices
    uploads: UploadServices
    images: ImageReads
    search: ImageSearch
    ai: AiServices
    health: HealthServices
    memory: FairShares
    clients: ClientServices = field(default_factory=ClientServices)
    events: EventHub | None = None
    local_file: Callable[[str], Path | None] | None = None

    def install(self, app: web.Application) -> None:
        """Store each group in the application under its key."""
        app[SETTINGS] = self.settings
        app[DATABASE] = self.db
        app[STORE] = self.store
        app[OUTBOX_PUBLISHER] = self.outbox_publisher
        app[AUTH] = self.auth
        app[CLIENTS] = self.clients
        app[UPLOADS] = self.uploads
        app[IMAGES] = self.images
        app[SEARCH] = self.search
        app[AI] = self.ai
        app[HEALTH] = self.health
        if self.events is not None:
            app[EVENTS] = self.events
        if self.local_file is not None:
            app[LOCAL_FILE] = self.local_file
