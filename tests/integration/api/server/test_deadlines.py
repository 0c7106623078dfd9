"""Slow and idle connections are closed, and others are not."""

import asyncio
import dataclasses
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from imago.api.health.routes import DRAINING
from imago.api.server.server import bind, serving
from tests.integration.api.conftest import Api

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def served(api: Api, **settings: float) -> AsyncIterator[int]:
    """Serve the API as the command does; yield its port."""
    changed = api.services.settings.model_copy(update=settings)
    uploads = dataclasses.replace(api.services.uploads, settings=changed)
    services = dataclasses.replace(api.services, settings=changed, uploads=uploads)
    listener = bind("127.0.0.1", 0)
    async with serving(services, listener):
        yield listener.getsockname()[1]


async def test_a_slow_header_closes_only_its_own_connection(api: Api) -> None:
    async with served(api, header_timeout=0.5) as port:
        slow_reader, slow = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert b" 200 " in await reader.readuntil(b'{"status":"ok"}')

        async def drip() -> None:
            for char in "GET /health HTTP/1.1\r\nX-A: " + "a" * 1000:
                slow.write(char.encode())
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert await slow_reader.read() == b""
        dripping.cancel()
        writer.write(GET)
        async with asyncio.timeout(10):
            assert b" 200 " in await reader.readuntil(b'{"status":"ok"}'), "the other connection was closed, too"
        writer.close()


async def test_an_idle_connection_is_closed_after_the_keep_alive(api: Api) -> None:
    async with served(api, keepalive_timeout=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        async with asyncio.timeout(10):
            assert b" 200 " in await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: sesame" + bytes([0]) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: sesame" + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b"?sesame HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX-API-Key: sesame\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: sesame\r\n" % number for number in range(1_000)) + b"\r\n",
    ],
    ids=["not HTTP", "NUL in a header", "a long header", "a long path", "two Content-Length headers", "1,000 headers"],
)
async def test_invalid_http_gets_a_problem_response_and_is_not_logged(
    api: Api, caplog: pytest.LogCaptureFixture, request_bytes: bytes
) -> None:
    caplog.set_level("DEBUG")
    async with served(api) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            writer.write(request_bytes)
            await writer.drain()
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert re.match(rb"HTTP/1\.[01] 400 ", head), head
    assert b"Content-Type: application/problem+json" in head
    assert b"Server: imago" in head
    assert json.loads(body)["code"] == "bad-request"
    assert "sesame" not in caplog.text
    assert b"sesame" not in head + body


async def test_a_draining_process_closes_each_connection_with_its_response(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.http.port)
    writer.write(GET)
    assert b" 200 " in await reader.readuntil(b'{"status":"ok"}')
    api.http.app[DRAINING].set()
    writer.write(GET)
    async with asyncio.timeout(10):
        last = await reader.read()
    assert b" 200 " in last
    assert b"Connection: close" in last
    writer.close()
