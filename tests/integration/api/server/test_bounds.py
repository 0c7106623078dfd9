"""What one client can make the API hold is bounded in bytes and time, and other clients don't notice."""

import asyncio
import dataclasses
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from imago.api.server import connections
from imago.api.server.server import bind, serving
from imago.runtime.shares import FairShares
from imago.settings import Settings
from tests.integration.api.conftest import Api, Tenant
from tests.support.images import encoded, picture

MB = 2**20


@dataclasses.dataclass
class Served:
    """The API on a separate port, as the command serves it."""

    port: int
    memory: FairShares

    async def connect(self, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer

    async def get(self, path: str, key: str = "") -> int:
        """Return the status of a GET on a separate connection."""
        reader, writer = await self.connect(head("GET", path, key, "Connection: close"))
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1])


def head(method: str, path: str, key: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", f"X-API-Key: {key}", *lines, "", ""]).encode()


@asynccontextmanager
async def served(api: Api, **settings: Any) -> AsyncIterator[Served]:
    # Validated, unlike a copy.
    configured = Settings(**{**api.services.settings.model_dump(), **settings})
    memory = FairShares(configured.request_memory_mb * MB)
    services = dataclasses.replace(api.services, settings=configured, memory=memory)
    listener = bind("127.0.0.1", 0)
    async with serving(services, listener):
        yield Served(listener.getsockname()[1], memory)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def problem(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """Return the problem document of a response, and its headers."""
    async with asyncio.timeout(20):
        headers, _, body = (await reader.read()).partition(b"\r\n\r\n")
    document: dict[str, Any] = json.loads(body)
    return document, headers


def stalled(key: str) -> bytes:
    length = f"Content-Length: {MB - 10}"
    return head("POST", "/ai/draft-task", key, "Content-Type: application/json", length) + b'{"description":"'


async def test_bodies_that_stall_hold_a_share_and_end(api: Api, tenant: Tenant) -> None:
    other = await api.new_client("other")
    async with served(api, request_memory_mb=16, json_body_timeout=4.0) as server:
        connected = [await server.connect(stalled(tenant.key)) for _ in range(12)]
        await until(lambda: server.memory.used > 8 * MB)
        assert await server.get("/images", other.key) == 200
        _, writer = await server.connect(stalled(other.key))
        await until(lambda: server.memory.used > 12 * MB)
        writer.close()
        problems = [await problem(reader) for reader, _ in connected]
        await until(lambda: not server.memory.used)
    codes = [document["code"] for document, _ in problems]
    assert {*codes} == {"too-much-in-flight", "request-timeout"}
    assert codes.count("request-timeout") == 5, "two thirds of 16 MiB"
    assert {document["limit"] for document, _ in problems} == {"request-memory", "json-body-timeout"}
    assert all(b"Retry-After: 1" in headers for _, headers in problems)


async def test_a_body_that_is_too_large_is_refused_before_it_arrives(api: Api, tenant: Tenant) -> None:
    async with served(api) as server:
        length = f"Content-Length: {MB + 1}"
        reader, _ = await server.connect(
            head("POST", "/ai/draft-task", tenant.key, "Content-Type: application/json", length)
        )
        document, _ = await problem(reader)
    assert (document["status"], document["max_body_bytes"]) == (413, MB)


async def test_unread_responses_hold_a_share_and_are_cut(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.2)
    for seed in range(40):
        _, body = await tenant.upload(encoded("png", picture(seed=seed)))
        await tenant.call("PATCH", f"/images/{body['id']}", json={"description": "\x01" * 10_000})
    async with served(api, request_memory_mb=16, response_idle_timeout=1.0) as server:
        unread = []
        for _ in range(8):
            connection = socket.socket()
            # So small that the response waits in the server.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", server.port))
            connection.send(head("GET", "/images?limit=40", tenant.key))
            unread.append(connection)
        await until(lambda: server.memory.used > 6 * MB)
        assert server.memory.used <= 16 * MB * 2 / 3
        assert await server.get("/images?limit=200", (await api.new_client("other")).key) == 200
        await until(lambda: not server.memory.used)
        assert await server.get("/images?limit=40", tenant.key) == 200
        for connection in unread:
            connection.close()


async def test_a_large_response_arrives_whole(api: Api, tenant: Tenant) -> None:
    for seed in range(3):
        _, body = await tenant.upload(encoded("png", picture(seed=seed)))
        await tenant.call("PATCH", f"/images/{body['id']}", json={"description": "\x01" * 10_000})
    async with served(api) as server:
        reader, writer = await server.connect(head("GET", "/images", tenant.key, "Connection: close"))
        headers, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert len(json.loads(body)["items"]) == 3
    assert f"Content-Length: {len(body)}".encode() in headers
    assert b"X-Request-ID: " in headers


async def test_silent_connections_make_room_for_others(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "_SILENT_SECONDS", 0.0)
    async with served(api, max_connections=5) as server:
        silent = [await server.connect(b"GET /health HTTP/1.1\r\nHo") for _ in range(20)]
        assert [await server.get("/health") for _ in range(3)] == [200] * 3
        for _, writer in silent:
            writer.close()
    assert "connections.limit-reached" in caplog.text


async def test_idle_connections_make_room_for_others(api: Api) -> None:
    async with served(api, max_connections=2) as server:
        idle = [await server.connect(head("GET", "/health", "")) for _ in range(2)]
        for reader, _ in idle:
            await reader.readuntil(b"}")
        assert [await server.get("/health") for _ in range(3)] == [200] * 3
        for _, writer in idle:
            writer.close()


async def test_connections_beyond_the_limit_get_503_with_retry_after(api: Api, tenant: Tenant) -> None:
    async with served(api, max_connections=2) as server:
        unfinished = head("POST", "/auth/token", tenant.key, "Content-Type: application/json", "Content-Length: 100")
        busy = [await server.connect(unfinished) for _ in range(2)]
        await until(lambda: server.memory.used > 0)
        reader, writer = await server.connect(head("GET", "/health", ""))
        document, headers = await problem(reader)
        writer.close()
        assert (document["status"], document["code"], document["limit"]) == (503, "overloaded", "max-connections")
        assert b"Retry-After: 5" in headers
        busy[0][1].close()
        # The server answers again as soon as it has noticed that the connection is closed.
        async with asyncio.timeout(10):
            while await server.get("/health") != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        busy[1][1].close()
