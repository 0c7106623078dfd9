"""The API in the test's own process, on SQLite and local files, with an outbox publisher that only records."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient, TestServer, get_port_socket

from imago.ai.offline.text_provider import OfflineTextProvider
from imago.api.auth.key_cache import KeyCache
from imago.api.auth.local_rates import LocalRates
from imago.api.auth.tokens import Tokens
from imago.api.events.hub import EventHub
from imago.api.http.services import AiServices, AuthServices, ClientServices, HealthServices, Services, UploadServices
from imago.api.server.app import build_app
from imago.api.uploads.slots import UploadSlots
from imago.core.ai_usage.model import CallContext
from imago.core.ai_usage.text_tasks import PageSource, TextProvider
from imago.core.clients import keys
from imago.core.clients.changes import NewClient, create_client
from imago.core.clients.model import Client, Pipeline, Plan
from imago.core.clients.rate_limits import DatabaseRates
from imago.core.clients.scopes import CLIENT_SCOPES, parse_client_scopes
from imago.core.images.queries import ImageReads
from imago.core.images.search.pages import ImageSearch
from imago.core.images.search.query_meaning import QueryMeaning
from imago.core.outbox.model import OutboxRow
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.nats.connection import NatsUnavailable
from imago.nats.lag import QueueLag
from imago.objects.local import LocalStore
from imago.runtime.shares import FairShares
from imago.settings import Settings
from imago.telemetry.metrics import exposition
from imago.web.fetch import PageFetcher
from imago.web.pages import WebPages
from imago.web.resolver import UnknownHost
from tests.support.samples import PEPPER

ADMIN_KEY = "the administrator's key of the tests"
OPERATOR_KEY = "the operator's key of the tests"
JWT_SECRET = "the tests' secret of tokens, of 32 bytes and more"


@dataclass
class RecordingPublisher:
    """An outbox publisher that only records its rows."""

    rows: list[OutboxRow] = field(default_factory=list)

    def publish_soon(self, rows: Sequence[OutboxRow]) -> None:
        self.rows.extend(rows)


@dataclass
class Api:
    """A served API and its parts."""

    http: TestClient[web.Request, web.Application]
    services: Services
    published: RecordingPublisher
    storage: Path

    async def new_client(
        self, name: str = "someone", *, scopes: Sequence[str] | None = None, **limits: int
    ) -> "Tenant":
        limits = {"burst": 1_000_000, **limits}
        key = keys.generate()
        granted = CLIENT_SCOPES if scopes is None else parse_client_scopes(scopes)
        new = NewClient(name, Plan.STANDARD, granted, limits, Pipeline())
        client = await create_client(self.services.db, new, key=key, pepper=PEPPER)
        return Tenant(self, client, key.reveal())

    async def call(self, method: str, path: str, *, key: str = ADMIN_KEY, **options: Any) -> tuple[int, Any]:
        """Make a request with the administrator's key, or another, and return its status and JSON."""
        headers = {"X-API-Key": key, **options.pop("headers", {})}
        async with self.http.request(method, path, headers=headers, **options) as response:
            return response.status, await response.json(content_type=None) if response.status != 204 else None

    def files(self) -> list[Path]:
        """Return the files in storage, complete or not."""
        return [path for path in self.storage.rglob("*") if path.is_file()]


@dataclass
class Tenant:
    """A client with its key."""

    api: Api
    client: Client
    key: str

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Make a request and return its status and JSON."""
        headers = {"X-API-Key": self.key, **options.pop("headers", {})}
        async with self.api.http.request(method, path, headers=headers, **options) as response:
            return response.status, await response.json(content_type=None) if response.status != 204 else None

    async def upload(self, data: bytes, name: str = "photo.jpg", **headers: str) -> tuple[int, Any]:
        """Upload a file."""
        # curl does not quote names either.
        form = FormData(quote_fields=False)
        form.add_field("file", data, filename=name, content_type="image/jpeg")
        return await self.call("POST", "/images/upload", data=form, headers=headers)


class NoTasks:
    """A child pool that runs nothing."""

    async def run(self, task: str, arguments: dict[str, Any], *, timeout: float, reads: Mapping[str, Path]) -> Any:
        raise AssertionError(f"{task} was not expected")


async def _no_queues() -> list[QueueLag]:
    raise NatsUnavailable


async def _no_names(host: str) -> Sequence[str]:
    raise UnknownHost(host)


async def serve(
    db: Database,
    storage: Path,
    *,
    events: EventHub | None = None,
    pages: PageSource | None = None,
    texts: TextProvider | None = None,
    texts_for: Callable[[CallContext], TextProvider] | None = None,
    send_buffer: int | None = None,
    ocr_installed: Sequence[str] = (),
    meaning: QueryMeaning | None = None,
    **settings: Any,
) -> Api:
    """Serve the API; without `pages`, no host name resolves; `send_buffer` limits the kernel's buffer of responses."""
    # Tests send more requests than the default limits allow.
    settings = {"anonymous_burst": 100_000, "files_burst": 100_000, **settings}
    configured = Settings(
        admin_api_key=ADMIN_KEY,
        operator_api_key=OPERATOR_KEY,
        jwt_secret_key=JWT_SECRET,
        api_key_pepper=PEPPER,
        signed_url_secret="secret of signed URLs",
        storage_dir=storage,
        **settings,
    )
    store = LocalStore(storage, url_secret="secret of signed URLs")
    await asyncio.to_thread(store.prepare)
    published = RecordingPublisher()
    services = Services(
        settings=configured,
        db=db,
        store=store,
        outbox_publisher=published,
        auth=AuthServices(
            KeyCache(db, pepper=PEPPER), LocalRates() if db.is_sqlite else DatabaseRates(db), tokens=Tokens(JWT_SECRET)
        ),
        uploads=UploadServices(configured, db, store, published, Uploads(db), UploadSlots(configured)),
        images=ImageReads(db),
        search=ImageSearch(db, meaning),
        ai=AiServices(
            texts=texts_for or (lambda _: texts or OfflineTextProvider()),
            pages=pages or WebPages(PageFetcher(resolve=_no_names), NoTasks()),
        ),
        clients=ClientServices(ocr_languages=ocr_installed),
        events=events,
        local_file=store.servable,
        health=HealthServices({"database": db.check_pages, "storage": store.check}, exposition, _no_queues),
        memory=FairShares(configured.request_memory_mb * 2**20),
    )

    def listening_socket(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
        listener = get_port_socket(host, port, family)
        if send_buffer is not None:
            # Accepted connections inherit it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return listener

    http = TestClient(TestServer(build_app(services), socket_factory=listening_socket))
    await http.start_server()
    return Api(http, services, published, storage)


@pytest.fixture
async def api(sqlite_db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """A served API."""
    limits = {"max_upload_size_mb": 2, "max_image_pixels": 1_000_000, "max_decode_memory_mb": 18}
    served = await serve(sqlite_db, tmp_path / "objects", **limits)
    yield served
    await served.http.close()


@pytest.fixture
async def tenant(api: Api) -> Tenant:
    """A client of the API."""
    return await api.new_client()
