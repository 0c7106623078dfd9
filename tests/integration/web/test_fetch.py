"""The page fetcher against local servers: it makes no connection for a refused URL, and limits every response."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import zlib
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from devtools.waiting import until
from imago.core.errors import (
    FetchFailed,
    FetchTimeout,
    FetchTooLarge,
    HostNotFound,
    NotAPage,
    Problem,
    Unavailable,
    UrlRefused,
)
from imago.web.fetch import USER_AGENT, FetchLimits, PageFetcher
from tests.support.ssrf import (
    PUBLIC_IPV4,
    PUBLIC_IPV6,
    SITE,
    Wire,
    bypass_urls,
    canary,
    harmless_urls,
    resolve_with_libc,
    resolver,
    site,
)

SITE_NAME = "site.example.com"


def fetcher(port: int, *ports: int, resolve: Any = None, **limits: Any) -> PageFetcher:
    """Return a fetcher that may connect to the test site by its name, besides public addresses."""
    return PageFetcher(
        resolve=resolve or resolver({SITE_NAME: [SITE]}),
        allow={ip_address(SITE)},
        ports={80, 443, port, *ports},
        limits=FetchLimits(**limits),
    )


def page(body: bytes, **headers: str) -> Any:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": "text/html; charset=utf-8", **headers})

    return answer


def redirect(location: str, status: int = 302) -> Any:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": location})

    return answer


async def test_a_page_is_fetched_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        response = web.Response(text="<p>été</p>", content_type="text/html", charset="iso8859-1")
        response.set_cookie("session", "1")
        return response

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    async with site(("/a", answer)) as server:
        page_fetcher = fetcher(server.port)
        for _ in range(2):
            fetched = await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/a?b=%20c#d")
            url = f"http://{SITE_NAME}:{server.port}/a?b=%20c"
            host = f"{SITE_NAME}:{server.port}"
    assert (fetched.url, fetched.content_type, fetched.charset) == (url, "text/html", "iso8859-1")
    assert fetched.body.decode("latin-1") == "<p>été</p>"
    headers = seen[1].headers
    assert headers["Host"] == host
    assert headers["User-Agent"] == USER_AGENT
    assert not {"Cookie", "Authorization", "Referer", "traceparent", "X-Forwarded-For"} & set(headers)


async def test_no_bypass_url_makes_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire().cut(monkeypatch)
    async with canary() as listening:
        urls = bypass_urls(listening.port)
        page_fetcher = PageFetcher(resolve=resolve_with_libc, ports={80, 443, listening.port})
        accepted = []
        for url in urls:
            with contextlib.suppress(UrlRefused):
                accepted.append((url, await page_fetcher.fetch(url)))
        assert len(urls) >= 300
        assert not accepted
        assert wire.attempts == []
        assert listening.connections == 0


async def test_only_connections_of_this_thread_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(port: int) -> None:
        socket.create_connection(("127.0.0.1", port)).close()

    async with canary() as listening:
        wire = Wire().cut(monkeypatch)
        await asyncio.to_thread(connect, listening.port)
        assert wire.attempts == []
        connect(listening.port)
        assert wire.attempts == ["127.0.0.1"]


async def test_no_redirect_to_a_bypass_url_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire().cut(monkeypatch)
    async with canary() as listening:
        urls = {url for url in bypass_urls(listening.port) if "\r" not in url and "\n" not in url and "\0" not in url}
        targets = [url for url in urls if url.encode("utf-8", "surrogateescape")]
        asked: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": targets[int(request.query["to"])]})

        async def know(host: str) -> Sequence[str]:
            asked.append(host)
            return [SITE] if host == SITE_NAME else await resolve_with_libc(host)

        async with site(("/", answer)) as server:
            page_fetcher = fetcher(server.port, listening.port, resolve=know)
            for number, target in enumerate(targets):
                with pytest.raises((UrlRefused, FetchFailed)):
                    await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/?to={number}")
                assert set(wire.attempts) <= {SITE}, f"a redirect to {target!r} was followed"
        assert len(targets) >= 300
        assert listening.connections == 0


async def test_harmless_urls_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire().cut(monkeypatch)
    page_fetcher = PageFetcher(resolve=resolver({}, default=[PUBLIC_IPV4, PUBLIC_IPV6]))
    urls = harmless_urls()
    for url in urls:
        before = len(wire.attempts)
        with pytest.raises(FetchFailed):
            # The connection always fails here. An attempt shows that the URL was accepted.
            await page_fetcher.fetch(url)
        assert len(wire.attempts) > before, f"{url} was refused"
    assert len(urls) >= 100


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        [PUBLIC_IPV4, "127.0.0.1"],
        [PUBLIC_IPV4, PUBLIC_IPV6, "::1"],
        [PUBLIC_IPV4, "fe80::1%eth0"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["169.254.169.254"],
    ],
)
async def test_one_internal_address_refuses_a_name_and_the_error_reveals_no_address(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire().cut(monkeypatch)
    with pytest.raises(UrlRefused) as refused:
        await PageFetcher(resolve=resolver({}, default=addresses)).fetch("http://inside.example.com/")
    assert refused.value.detail == "The URL's host isn't on the public internet."
    assert not refused.value.extra
    assert wire.attempts == []


@pytest.mark.parametrize("url", ["http://unknown.example.com/", "http://unknown.invalid/"])
async def test_a_host_name_that_does_not_exist_has_its_own_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire().cut(monkeypatch)
    with pytest.raises(HostNotFound):
        await PageFetcher(resolve=resolver({})).fetch(url)
    assert wire.attempts == []


async def test_an_unavailable_name_server_is_not_taken_for_a_wrong_name() -> None:
    async def fail(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(FetchFailed) as failed:
        await PageFetcher(resolve=fail).fetch("http://example.com/")
    assert failed.value.detail == "The URL's host name can't be resolved at the moment; try again."


async def test_a_connection_to_an_unchecked_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if aiohttp used another resolver.
    wire = Wire().cut(monkeypatch)

    async def lie(*_: Any, **__: Any) -> list[Any]:
        return [{"hostname": "x", "host": "127.0.0.1", "port": 80, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr("aiohttp.TCPConnector._resolve_host", lie)
    with pytest.raises(UrlRefused):
        await PageFetcher(resolve=resolver({}, default=[PUBLIC_IPV4])).fetch("http://example.com/")
    assert wire.attempts == []


async def test_five_redirects_are_followed_and_a_sixth_is_not() -> None:
    async def count(request: web.Request) -> web.Response:
        left = int(request.query["left"])
        if not left:
            return web.Response(text="there", content_type="text/plain")
        return web.Response(status=301, headers={"Location": f"?left={left - 1}"})

    async with site(("/", count)) as server:
        page_fetcher = fetcher(server.port)
        fetched = await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/?left=5")
        assert (fetched.body, fetched.url) == (b"there", f"http://{SITE_NAME}:{server.port}/?left=0")
        with pytest.raises(FetchFailed, match="more than 5 times"):
            await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/?left=6")


async def test_a_redirect_loop_ends() -> None:
    async with site(("/", redirect("/"))) as server:
        with pytest.raises(FetchFailed, match="more than 5 times"):
            await fetcher(server.port).fetch(f"http://{SITE_NAME}:{server.port}/")


def _raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", _raw_deflate)],
)
async def test_a_bomb_is_stopped_at_the_decompressed_limit(encoding: str, compress: Any) -> None:
    routes = [
        ("/small", page(compress(b"<p>" + b"x" * 1000), **{"Content-Encoding": encoding})),
        ("/bomb", page(compress(b"\0" * 100 * 2**20), **{"Content-Encoding": encoding})),
    ]
    async with site(*routes) as server:
        page_fetcher = fetcher(server.port, size=100_000)
        assert len((await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/small")).body) == 1003
        with pytest.raises(FetchTooLarge, match="100000 bytes"):
            await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/bomb")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "aes128gcm"])
async def test_an_unsupported_encoding_is_refused(encoding: str) -> None:
    async with site(("/", page(b"x" * 1000, **{"Content-Encoding": encoding}))) as server:
        with pytest.raises(FetchFailed, match="unsupported compression"):
            await fetcher(server.port).fetch(f"http://{SITE_NAME}:{server.port}/")


async def test_invalid_compressed_data_fails_the_fetch() -> None:
    async with site(("/", page(b"\x1f\x8bnot gzip at all", **{"Content-Encoding": "gzip"}))) as server:
        with pytest.raises(FetchFailed):
            await fetcher(server.port).fetch(f"http://{SITE_NAME}:{server.port}/")


async def test_a_too_large_page_is_refused_with_and_without_a_content_length() -> None:
    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 2000)
        return response

    async with site(
        ("/declared", page(b"x" * 100_001)), ("/chunked", chunked), ("/fits", page(b"x" * 100_000))
    ) as server:
        page_fetcher = fetcher(server.port, size=100_000)
        assert len((await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/fits")).body) == 100_000
        for path in ("declared", "chunked"):
            with pytest.raises(FetchTooLarge):
                await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/{path}")


async def test_a_slow_page_and_its_connection_end_at_the_time_limit() -> None:
    disconnected = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.02)
        finally:
            disconnected.set()

    async with site(("/", drip)) as server:
        with pytest.raises(FetchTimeout, match=r"0\.5 s"):
            await fetcher(server.port, seconds=0.5).fetch(f"http://{SITE_NAME}:{server.port}/")

        async def closed() -> bool:
            return disconnected.is_set()

        await until(closed, what="the page's server to see the connection end")


async def test_an_unresponsive_resolver_ends_at_the_time_limit() -> None:
    async def never(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(FetchTimeout):
        await PageFetcher(resolve=never, limits=FetchLimits(seconds=0.2)).fetch("http://example.com/")


async def test_too_many_concurrent_fetches_are_refused() -> None:
    started, resume = asyncio.Event(), asyncio.Event()

    async def wait(host: str) -> Sequence[str]:
        started.set()
        await resume.wait()
        return ["127.0.0.1"]

    page_fetcher = PageFetcher(resolve=wait, limits=FetchLimits(max_concurrent=1))
    first = asyncio.create_task(page_fetcher.fetch("http://example.com/"))
    await started.wait()
    with pytest.raises(Unavailable):
        await page_fetcher.fetch("http://example.com/")
    resume.set()
    with pytest.raises(UrlRefused):
        await first


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"Content-Type": "application/pdf"}, NotAPage),
        ({"Content-Type": "image/svg+xml"}, NotAPage),
        ({"Content-Type": "application/json"}, NotAPage),
        ({"Content-Type": "text/html;"}, None),
        ({"Content-Type": "TEXT/HTML; charset=UTF-8"}, None),
        ({"Content-Type": "application/xhtml+xml"}, None),
    ],
)
async def test_only_html_and_text_are_accepted(headers: dict[str, str], problem: type[Problem] | None) -> None:
    async with site(("/", page(b"<p>x</p>", **headers))) as server:
        page_fetcher = fetcher(server.port)
        if problem is None:
            assert (await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/")).body == b"<p>x</p>"
            return
        with pytest.raises(problem):
            await page_fetcher.fetch(f"http://{SITE_NAME}:{server.port}/")


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 404, 407, 500, 503])
async def test_an_error_has_the_status_of_the_page(status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"WWW-Authenticate": "Basic", "Content-Type": "text/html"})

    async with site(("/", answer)) as server:
        with pytest.raises(FetchFailed) as failed:
            await fetcher(server.port).fetch(f"http://{SITE_NAME}:{server.port}/")
    assert failed.value.extra == {"page_status": status}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 500\r\n\r\ncut off",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
        b"-ERR unknown command\r\n",
    ],
)
async def test_an_invalid_response_fails_without_its_content(answer: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(speak, SITE, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises((FetchFailed, UrlRefused)) as failed:
            await fetcher(port).fetch(f"http://{SITE_NAME}:{port}/")
    assert SITE not in failed.value.detail
    assert "SSH" not in failed.value.detail


async def test_a_closed_port_fails_without_an_address_in_the_error() -> None:
    with pytest.raises(FetchFailed) as failed:
        await fetcher(80).fetch(f"http://{SITE_NAME}/")
    assert SITE not in str(failed.value)


async def test_the_certificate_must_match_the_name(tmp_path: Path) -> None:
    names: list[str | None] = []
    certificate, key = await _certificate(tmp_path, SITE_NAME)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate, key)
    serving.sni_callback = lambda _, name, __: names.append(name)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()

    trusting = ssl.create_default_context(cafile=str(certificate))
    server = await asyncio.start_server(speak, SITE, 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    resolve = resolver({SITE_NAME: [SITE], "other.example.com": [SITE]})
    async with server:
        page_fetcher = PageFetcher(resolve=resolve, allow={ip_address(SITE)}, ports={port}, tls=trusting)
        assert (await page_fetcher.fetch(f"https://{SITE_NAME}:{port}/")).body == b"hi"
        for url, by in (
            (f"https://other.example.com:{port}/", page_fetcher),
            (f"https://{SITE}:{port}/", page_fetcher),
        ):
            with pytest.raises(FetchFailed):
                await by.fetch(url)
        with pytest.raises(FetchFailed):
            await PageFetcher(resolve=resolve, allow={ip_address(SITE)}, ports={port}).fetch(
                f"https://{SITE_NAME}:{port}/"
            )
    assert names[0] == SITE_NAME


async def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2")
    openssl = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", str(key), "-out", str(certificate), *subject),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await openssl.wait() == 0, "openssl failed"
    return certificate, key
