"""The connection to NATS: several servers, every kind of credential, and reconnects without a limit."""

import asyncio
import contextlib
import ssl
from typing import Any

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from imago.runtime.cancellation import end_tasks
from imago.settings.nats import NatsSettings

log = structlog.get_logger(__name__)

# A server that takes longer to accept a connection counts as unavailable.
CONNECT_TIMEOUT = 5
RECONNECT_WAIT = 1
# The library closes a connection after two unanswered pings: after 20 s, instead of four minutes by its defaults.
PING_INTERVAL = 10
# Limits `close`, too. Its subscriptions have no pending messages that are worth a longer wait.
DRAIN_TIMEOUT = 5
# The library buffers publications while it reconnects, but their acknowledgements time out long before it sends them.
PENDING_SIZE = 2**20


class NatsUnavailable(Exception):
    """NATS is unreachable or JetStream did not answer in time; a published message may or may not be stored."""


class NatsConnection:
    """A connection with its JetStream context; it connects and reconnects in the background."""

    def __init__(self, settings: NatsSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self.client = Client()
        self._connecting: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._js: JetStreamContext | None = None
        self._closing = False

    @property
    def connected(self) -> bool:
        """Whether the connection is established."""
        return self.client.is_connected

    @property
    def js(self) -> JetStreamContext:
        """The JetStream context; raises NatsUnavailable before the first connection is established."""
        if self._js is None:
            raise NatsUnavailable("not connected yet")
        return self._js

    async def check(self) -> None:
        """Raise NatsUnavailable while there is no connection."""
        if not self.connected:
            raise NatsUnavailable("not connected")

    async def start(self) -> None:
        """Start connecting and return immediately, so that a process can start while NATS is unavailable."""
        self._connecting = asyncio.create_task(self._connect(), name="nats-connect")

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until the connection is established; raise NatsUnavailable after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            raise NatsUnavailable("NATS did not answer") from None

    async def close(self) -> None:
        """Close the connection in any state, within `DRAIN_TIMEOUT` seconds."""
        self._closing = True
        await end_tasks(self._connecting)
        # Not `drain`: after a fetch that timed out, it always waits for its whole timeout.
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await self.client.close()

    async def _on_closed(self) -> None:
        """Reconnect when the library gives up, as it does on some server errors (such as an expired credential)."""
        if not self._closing and self._ready.is_set():
            log.warning("nats.connection-closed", message="the NATS client gave up; reconnecting")
            self._ready.clear()
            self.client = Client()
            await self.start()

    async def _connect(self) -> None:
        options = {**_options(self._settings, name=self._name), "closed_cb": self._on_closed}
        first = True
        while True:
            try:
                await self.client.connect(**options)
            except (NatsError, OSError, TimeoutError) as error:
                if first:
                    log.warning("nats.connect-failed", error=type(error).__name__, message="retrying")
                first = False
                await asyncio.sleep(RECONNECT_WAIT)
                continue
            self._js = self.client.jetstream(timeout=self._settings.nats_timeout)
            self._ready.set()
            log.debug("nats.connected", server=_server(self.client))
            return


def _options(settings: NatsSettings, *, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "servers": list(settings.nats_url),
        "name": f"imago-{name}",
        # Each component has its own NATS user, which may subscribe only to its prefix.
        "inbox_prefix": f"_INBOX_imago_{name}",
        "connect_timeout": CONNECT_TIMEOUT,
        "reconnect_time_wait": RECONNECT_WAIT,
        "max_reconnect_attempts": -1,
        "ping_interval": PING_INTERVAL,
        "drain_timeout": DRAIN_TIMEOUT,
        "pending_size": PENDING_SIZE,
        "error_cb": _on_error,
        "disconnected_cb": _on_disconnected,
        "reconnected_cb": _on_reconnected,
    }
    if settings.nats_user is not None:
        options["user"] = settings.nats_user
    if settings.nats_password is not None:
        options["password"] = settings.nats_password.get_secret_value()
    if settings.nats_token is not None:
        options["token"] = settings.nats_token.get_secret_value()
    if settings.nats_creds_file is not None:
        options["user_credentials"] = str(settings.nats_creds_file)
    if settings.nats_tls_ca is not None or settings.nats_tls_cert is not None:
        context = ssl.create_default_context(cafile=settings.nats_tls_ca)
        if settings.nats_tls_cert is not None:
            context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key)
        options["tls"] = context
    return options


def _server(client: Client) -> str:
    url = client.connected_url
    return f"{url.hostname}:{url.port}" if url is not None else "-"


async def _on_error(error: Exception) -> None:
    # The text of a connection error can contain the server's URL with its password.
    log.warning("nats.error", error=type(error).__name__)


async def _on_disconnected() -> None:
    log.warning("nats.disconnected")


async def _on_reconnected() -> None:
    log.warning("nats.reconnected")
