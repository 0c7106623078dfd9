"""SSRF at full size: names that change their address between check and connection, and every spelling."""

import contextlib
import gzip
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from aiohttp import web

from imago.core.errors import FetchFailed, FetchTooLarge, UrlRefused
from imago.web.decompress import Decompressor
from imago.web.fetch import FetchLimits, PageFetcher
from tests.faults.figures import Figures
from tests.support.ssrf import (
    PUBLIC_IPV4,
    SITE,
    Wire,
    bypass_urls,
    canary,
    harmless_urls,
    resolve_with_libc,
    resolver,
    site,
)

REBINDINGS = 1000


class Rebinding:
    """A resolver whose first result is public and whose later results are this machine."""

    def __init__(self, first: str) -> None:
        self._first = first
        self.asked: dict[str, int] = {}

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked[host] = self.asked.get(host, 0) + 1
        return [self._first if self.asked[host] == 1 else "127.0.0.1"]


async def test_a_rebinding_name_is_resolved_once_and_reaches_nothing(
    figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire().cut(monkeypatch)
    async with canary() as listening:
        names = Rebinding(PUBLIC_IPV4)
        asking = PageFetcher(resolve=names, ports={listening.port})
        for number in range(REBINDINGS):
            with pytest.raises(FetchFailed):
                await asking.fetch(f"http://r{number}.attacker.example:{listening.port}/")
        assert names.asked == {f"r{number}.attacker.example": 1 for number in range(REBINDINGS)}
        assert wire.attempts == [PUBLIC_IPV4] * REBINDINGS
        figures.hold("SSRF: rebindings that reach the canary, of 1000", listening.connections, "==", 0)


async def test_a_name_that_rebinds_between_two_redirects_reaches_nothing(figures: Figures) -> None:
    async def to_itself(request: web.Request) -> web.Response:
        port = request.query["port"]
        return web.Response(status=302, headers={"Location": f"http://{request.url.host}:{port}/"})

    async with canary() as listening, site(("/", to_itself)) as server:
        names = Rebinding(SITE)
        asking = PageFetcher(resolve=names, allow={ip_address(SITE)}, ports={listening.port, server.port or 0})
        for number in range(REBINDINGS):
            url = f"http://r{number}.attacker.example:{server.port}/?port={listening.port}"
            with pytest.raises(UrlRefused):
                await asking.fetch(url)
        assert set(names.asked.values()) == {2}
        figures.hold("SSRF: rebindings within redirects that reach the canary, of 1000", listening.connections, "==", 0)


async def test_no_spelling_reaches_the_canary_and_no_harmless_url_is_refused(
    figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire().cut(monkeypatch)
    async with canary() as listening:
        urls = bypass_urls(listening.port)
        asking = PageFetcher(resolve=resolve_with_libc, ports={80, 443, listening.port})
        accepted = 0
        for url in urls:
            with contextlib.suppress(UrlRefused):
                await asking.fetch(url)
                accepted += 1
        figures.hold("SSRF: bypass URLs tried", len(urls), ">=", 300)
        figures.hold("SSRF: bypass URLs accepted", accepted, "==", 0)
        figures.hold("SSRF: connections made for bypass URLs", len(wire.attempts) + listening.connections, "==", 0)
    refused = 0
    harmless = PageFetcher(resolve=resolver({}, default=[PUBLIC_IPV4]))
    for url in harmless_urls():
        try:
            await harmless.fetch(url)
        except UrlRefused:
            refused += 1
        except FetchFailed:
            # Connections are blocked, so an attempt shows that the URL was accepted.
            continue
    figures.hold(f"SSRF: harmless URLs rejected, of {len(harmless_urls())}", refused, "==", 0)


async def test_a_gzip_bomb_is_stopped_at_the_decompressed_limit(
    figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = gzip.compress(bytes(512 * 2**20), compresslevel=9)
    taken: list[Decompressor] = []

    class Watched(Decompressor):
        def __init__(self, encoding: str, *, limit: int) -> None:
            super().__init__(encoding, limit=limit)
            taken.append(self)

    async def explode(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Type": "text/html", "Content-Encoding": "gzip"})

    monkeypatch.setattr("imago.web.fetch.Decompressor", Watched)
    async with site(("/", explode)) as server:
        asking = PageFetcher(resolve=resolver({}, default=[SITE]), allow={ip_address(SITE)}, ports={server.port or 0})
        with pytest.raises(FetchTooLarge):
            await asking.fetch(f"http://bomb.attacker.example:{server.port}/")
    figures.note("SSRF: size of a bomb in MiB, compressed", len(bomb) / 2**20)
    decompressed = len(taken[0].data()) - FetchLimits().size
    figures.hold("SSRF: bytes decompressed of a bomb of 512 MiB, beyond the limit of 2 MiB", decompressed, "<=", 1)
