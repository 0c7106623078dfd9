"""Fetch a page of the public web for a client, and nothing else (SSRF).

aiohttp bypasses its resolver if the host is an address, follows redirects itself, and decompresses before it counts
bytes. So all three are done here. Each hop has its own session: its host is resolved once, every address must be
public, and the session can connect only to these addresses, whatever the name resolves to later (DNS rebinding). TLS
and the Host header use the name. Errors don't reveal addresses.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
import structlog
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from yarl import URL

from imago import __version__
from imago.core.errors import FetchFailed, FetchTimeout, FetchTooLarge, HostNotFound, NotAPage, Unavailable, UrlRefused
from imago.runtime.shares import FairShares, ShareExhausted
from imago.web.address_policy import IPAddress, refusal_reason
from imago.web.decompress import Decompressor, UnsupportedEncoding
from imago.web.pinned_connections import PinnedConnections
from imago.web.resolver import THREADS, SystemResolver, UnknownHost
from imago.web.urls import WEB_PORTS, WebUrl, parse_url, resolve_redirect

log = structlog.get_logger(__name__)

USER_AGENT = f"Imago/{__version__} (page summaries)"
CONTENT_TYPES = frozenset({"text/html", "application/xhtml+xml", "text/plain"})

_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "text/html, application/xhtml+xml, text/plain;q=0.8",
    "Accept-Encoding": "gzip, deflate",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 64 * 1024
_RETRY_SECONDS = 5

Resolve = Callable[[str], Awaitable[Sequence[str]]]


@dataclass(frozen=True)
class FetchLimits:
    """Limits of one fetch: `size` in decompressed bytes, `seconds` from the first DNS query to the last byte.

    `max_concurrent` is the number of concurrent fetches.
    """

    size: int = 2 * 2**20
    seconds: float = 15.0
    connect_seconds: float = 5.0
    redirects: int = 5
    max_concurrent: int = 32


@dataclass(frozen=True)
class FetchedPage:
    """The final response. `charset` is the header's, and as untrusted as the body."""

    url: str
    content_type: str
    charset: str | None
    body: bytes


class PageFetcher:
    """Fetches pages. `allow`, `ports` and `resolve` are for tests, and no setting changes them."""

    def __init__(
        self,
        *,
        limits: FetchLimits | None = None,
        resolve: Resolve | None = None,
        allow: Collection[IPAddress] = (),
        ports: Collection[int] = WEB_PORTS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits or FetchLimits()
        self._system_resolver = SystemResolver()
        self._resolve = resolve or self._system_resolver.resolve
        self._allow = frozenset(allow)
        self._ports = frozenset(ports)
        self._tls = tls or ssl.create_default_context()
        self._slots = FairShares(self._limits.max_concurrent)
        self._lookups = FairShares(THREADS)

    async def fetch(self, url: str, *, holder: Hashable = None) -> FetchedPage:
        """Fetch a page; each `holder`, a client, has a fair share of the concurrent fetches and lookups of names.

        Raises UrlRefused, HostNotFound, FetchFailed, FetchTimeout, FetchTooLarge, NotAPage, or Unavailable.
        """
        first = parse_url(url, ports=self._ports)
        try:
            with self._slots.hold_now(holder, 1):
                return await self._within_limits(first, holder)
        except ShareExhausted as exhausted:
            whose = "by this client" if exhausted.of_holder else "at the moment"
            raise Unavailable(f"Too many pages are being fetched {whose}.", retry_after=_RETRY_SECONDS) from None

    async def _within_limits(self, url: WebUrl, holder: Hashable) -> FetchedPage:
        try:
            # A page's server must not get our trace headers, or become a span of our traces.
            with suppress_http_instrumentation():
                async with asyncio.timeout(self._limits.seconds):
                    return await self._follow(url, holder)
        except TimeoutError:
            raise FetchTimeout(f"The page took longer than {self._limits.seconds:g} s.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.info("page.fetch-failed", host=url.host, error=type(error).__name__)
            raise FetchFailed("The page's server is unreachable, or its response is not valid HTTP.") from None

    async def close(self) -> None:
        """Stop the resolver's threads."""
        self._system_resolver.close()

    async def _follow(self, url: WebUrl, holder: Hashable) -> FetchedPage:
        for _ in range(self._limits.redirects + 1):
            result = await self._get(url, holder)
            if isinstance(result, FetchedPage):
                return result
            url = resolve_redirect(url, result, ports=self._ports)
        raise FetchFailed(f"The page redirects more than {self._limits.redirects} times.")

    async def _get(self, url: WebUrl, holder: Hashable) -> FetchedPage | str:
        """Send one request; return the page, or the location of a redirect."""
        request_url = URL(str(url), encoded=True)
        if request_url.raw_host != url.host or request_url.port != url.port:
            raise UrlRefused("The URL is ambiguous.")
        pinned = PinnedConnections(await self._public_addresses(url, holder))
        async with (
            self._session(pinned) as session,
            session.get(request_url, allow_redirects=False) as response,
        ):
            if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                return location
            return await self._read(url, response)

    def _session(self, pinned: PinnedConnections) -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(pinned.verify_peer)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=pinned,
                socket_factory=pinned.make_socket,
                use_dns_cache=False,
                force_close=True,
                limit=1,
                ssl=self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_seconds),
            trace_configs=[tracing],
        )

    async def _read(self, url: WebUrl, response: aiohttp.ClientResponse) -> FetchedPage:
        if response.status != 200:
            raise FetchFailed(
                f"The page's server responded with status {response.status}.", extra={"page_status": response.status}
            )
        if "Content-Type" not in response.headers or response.content_type not in CONTENT_TYPES:
            raise NotAPage("The URL is neither HTML nor plain text.")
        try:
            decompressor = Decompressor(response.headers.get("Content-Encoding", ""), limit=self._limits.size)
        except UnsupportedEncoding:
            raise FetchFailed("The page has an unsupported compression.") from None
        if not await self._read_body(response, decompressor):
            raise FetchTooLarge(f"The page is larger than {self._limits.size} bytes.")
        return FetchedPage(str(url), response.content_type, response.charset, decompressor.data())

    async def _read_body(self, response: aiohttp.ClientResponse, decompressor: Decompressor) -> bool:
        """Read the body, and return whether it is within the limit.

        The compressed bytes are limited too, because an endless body may decompress to nothing.
        """
        if (response.content_length or 0) > self._limits.size:
            return False
        received = 0
        async for chunk in response.content.iter_chunked(_CHUNK):
            received += len(chunk)
            decompressor.feed(chunk)
            if decompressor.exceeded or received > self._limits.size:
                return False
        return True

    async def _public_addresses(self, url: WebUrl, holder: Hashable) -> frozenset[IPAddress]:
        """Return the addresses of a URL's host; raise HostNotFound, or UrlRefused unless all of them are public."""
        addresses = [url.address] if url.address is not None else await self._resolved(url.host, holder)
        reasons = [
            reason
            for address in addresses
            if address not in self._allow and (reason := refusal_reason(address)) is not None
        ]
        if not reasons:
            return frozenset(addresses)
        log.info("page.refused", host=url.host, reasons=sorted(set(reasons)))
        raise UrlRefused("The URL's host isn't on the public internet.")

    async def _resolved(self, host: str, holder: Hashable) -> list[IPAddress]:
        # A lookup occupies its thread, and so its share, longer than the fetch may take.
        lookup = asyncio.create_task(self._look_up(host, holder))
        lookup.add_done_callback(_ignore_error)
        try:
            addresses = [ip_address(text) for text in await asyncio.shield(lookup)]
        except UnknownHost:
            addresses = []
        except socket.gaierror:
            raise FetchFailed("The URL's host name can't be resolved at the moment; try again.") from None
        if not addresses:
            log.info("page.host-not-found", host=host)
            raise HostNotFound("The URL's host name does not exist; check its spelling.")
        return addresses

    async def _look_up(self, host: str, holder: Hashable) -> Sequence[str]:
        async with self._lookups.hold(holder, timeout=self._limits.seconds):
            return await self._resolve(host)


def _ignore_error(lookup: "asyncio.Task[Sequence[str]]") -> None:
    # Nobody waits any more for a lookup that took longer than its fetch.
    if not lookup.cancelled():
        lookup.exception()
