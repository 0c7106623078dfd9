"""Fetches a page of the public web for a tenant, and nothing else (SSRF).

aiohttp asks no resolver about hosts that are addresses, follows redirects by itself and decompresses before it counts;
so all three are done here. Each hop is a session of its own: its host is resolved once, every address of the answer
must be public, and the connection can go to these addresses alone, whatever the name resolves to a moment later (DNS
rebinding). TLS and the Host header keep the name. No error tells a tenant an address, or a name of ours from none at
all.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from types import SimpleNamespace

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from yarl import URL

from imago import __version__
from imago.core.errors import FetchFailed, FetchTimeout, FetchTooLarge, NotAPage, Unavailable, UrlRefused
from imago.web.address_policy import IPAddress, refusal
from imago.web.decompress import Decompressor, UnknownEncoding
from imago.web.urls import WEB_PORTS, WebUrl, join_url, read_url

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

# A nameserver that never answers holds a thread for half a minute; these threads are nobody else's.
_RESOLVER_THREADS = 8

Resolve = Callable[[str], Awaitable[Sequence[str]]]


class UnknownHost(Exception):
    """The name has no address."""


@dataclass(frozen=True)
class FetchLimits:
    """What one fetch may take: `size` in decompressed bytes, `seconds` from the first name to the last byte."""

    size: int = 2 * 2**20
    seconds: float = 15.0
    connect_seconds: float = 5.0
    redirects: int = 5
    at_once: int = 32


@dataclass(frozen=True)
class Fetched:
    """What a server answered in the end; `charset` is what the header says, and as little to be trusted as the rest."""

    url: str
    content_type: str
    charset: str | None
    body: bytes


class Fetcher:
    """Fetches pages; `allow`, `ports` and `resolve` are for tests, and no setting reaches them."""

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
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolver")
        self._resolve = resolve or self._ask_system
        self._allow = frozenset(allow)
        self._ports = frozenset(ports)
        self._tls = tls or ssl.create_default_context()
        self._slots = asyncio.Semaphore(self._limits.at_once)

    async def fetch(self, url: str) -> Fetched:
        """Fetch a page; raise UrlRefused, FetchFailed, FetchTimeout, FetchTooLarge, NotAPage, or Unavailable."""
        first = read_url(url, ports=self._ports)
        if self._slots.locked():
            raise Unavailable("Too many pages are being fetched at this moment.", retry_after=_RETRY_SECONDS)
        async with self._slots:
            try:
                # A page, or its server, gets no part in our traces.
                with suppress_http_instrumentation():
                    async with asyncio.timeout(self._limits.seconds):
                        return await self._follow(first)
            except TimeoutError:
                raise FetchTimeout(f"The page didn't come within {self._limits.seconds:g} s.") from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                log.info("a page could not be fetched", host=first.host, error=type(error).__name__)
                raise FetchFailed("The page's server can't be reached, or doesn't speak HTTP as it should.") from None

    async def close(self) -> None:
        """Let go of the resolver's threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, url: WebUrl) -> Fetched:
        for _ in range(self._limits.redirects + 1):
            answer = await self._get(url)
            if isinstance(answer, Fetched):
                return answer
            url = join_url(url, answer, ports=self._ports)
        raise FetchFailed(f"The page redirects more than {self._limits.redirects} times.")

    async def _get(self, url: WebUrl) -> Fetched | str:
        """Make one request; return the page, or where it redirects to."""
        asked = URL(str(url), encoded=True)
        if asked.raw_host != url.host or asked.port != url.port:
            raise UrlRefused("The URL can be read in two ways.")
        gate = _Gate(await self._addresses(url))
        connector = aiohttp.TCPConnector(
            resolver=gate,
            socket_factory=gate.make_socket,
            use_dns_cache=False,
            force_close=True,
            limit=1,
            ssl=self._tls,
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(gate.verify_peer)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers=_HEADERS,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_seconds),
                trace_configs=[tracing],
            ) as session,
            session.get(asked, allow_redirects=False) as response,
        ):
            if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                return location
            return await self._page(url, response)

    async def _page(self, url: WebUrl, response: aiohttp.ClientResponse) -> Fetched:
        if response.status != 200:
            raise FetchFailed(f"The page's server answered {response.status}.", extra={"page_status": response.status})
        if "Content-Type" not in response.headers or response.content_type not in CONTENT_TYPES:
            raise NotAPage("The URL answers neither HTML nor plain text.")
        try:
            decompressor = Decompressor(response.headers.get("Content-Encoding", ""), limit=self._limits.size)
        except UnknownEncoding:
            raise FetchFailed("The page is compressed in a way that wasn't asked for.") from None
        # Compressed or not, more bytes than the limit are too many; so are empty ones without end.
        received = response.content_length or 0
        if received <= self._limits.size:
            received = 0
            async for chunk in response.content.iter_chunked(_CHUNK):
                received += len(chunk)
                decompressor.feed(chunk)
                if decompressor.full or received > self._limits.size:
                    break
        if decompressor.full or received > self._limits.size:
            raise FetchTooLarge(f"The page is larger than {self._limits.size} bytes.")
        return Fetched(str(url), response.content_type, response.charset, decompressor.data())

    async def _addresses(self, url: WebUrl) -> frozenset[IPAddress]:
        """Return the addresses a connection for this URL may go to; raise UrlRefused unless all there are may be."""
        try:
            found = [url.address] if url.address is not None else await self._resolved(url.host)
        except UnknownHost:
            reasons = ["unknown"]
        else:
            reasons = [reason for address in found if address not in self._allow and (reason := refusal(address))]
        if not reasons:
            return frozenset(found)
        log.info("a page was refused", host=url.host, reasons=sorted(set(reasons)))
        # The same for names without an address: which internal names exist is nobody's business.
        raise UrlRefused("The URL's host isn't on the public internet.")

    async def _resolved(self, host: str) -> list[IPAddress]:
        found = [ip_address(text) for text in await self._resolve(host)]
        if not found:
            raise UnknownHost(host)
        return found

    async def _ask_system(self, host: str) -> Sequence[str]:
        def ask() -> list[str]:
            # The dot at the end keeps the search list out: in a cluster, that would be names of services.
            answers = socket.getaddrinfo(f"{host}.", None, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(answer[4][0]) for answer in answers))

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except socket.gaierror as error:
            if error.errno in _UNKNOWN:
                raise UnknownHost(host) from None
            raise


_UNKNOWN = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class _Gate(AbstractResolver):
    """Lets one session's connections go to addresses that were checked, and to no other."""

    def __init__(self, addresses: frozenset[IPAddress]) -> None:
        self._addresses = addresses
        self._sockets: list[socket.socket] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            # IPv4 first: where IPv6 isn't routed, that is found out by waiting.
            for address in sorted(self._addresses, key=lambda address: (address.version, int(address)))
        ]

    async def close(self) -> None:
        """Nothing is held."""

    def make_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Make a socket for an address that aiohttp wants to connect to, the host in a URL being one included."""
        family, kind, protocol, _, address = info
        self._check(str(address[0]))
        made = socket.socket(family, kind, protocol)
        self._sockets.append(made)
        return made

    async def verify_peer(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, created: aiohttp.TraceConnectionCreateEndParams
    ) -> None:
        """Look at whom the connection is with, before anything is sent on it."""
        for made in self._sockets:
            # Of several that were tried at once, those that lost are closed.
            with contextlib.suppress(OSError):
                peer = made.getpeername()[0]
                self._check(str(peer))

    def _check(self, text: str) -> None:
        if ip_address(text) not in self._addresses:
            raise UrlRefused("The URL's host isn't on the public internet.")
