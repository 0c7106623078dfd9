"""Uploads to S3 and fetched pages share the memory of requests: one client can't take what another needs."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web

from devtools.s3 import S3Server, make_bucket
from imago.core.jobs.failures import TransientFailure
from imago.db.engine import Database
from imago.objects.s3 import S3Store
from imago.web.fetch import PageFetcher
from imago.web.pages import WebPages
from tests.integration.api.conftest import Api, NoTasks, Tenant, serve
from tests.integration.api.server.test_bounds import MB, Served, head, problem, served, until
from tests.integration.objects.conftest import s3_settings
from tests.support.images import encoded, picture
from tests.support.ssrf import SITE, resolver, site

_END = b"\r\n--x--\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server."""
    started = S3Server(tmp_path_factory.mktemp("s3"))
    started.start()
    yield started
    started.stop()


@pytest.fixture
async def on_s3(sqlite_db: Database, tmp_path: Path, server: S3Server) -> AsyncIterator[Api]:
    """An API whose objects are in S3."""
    await make_bucket(server.url)
    store = S3Store(s3_settings(server.url))
    await store.open()
    api = await serve(sqlite_db, tmp_path / "unused")
    uploads = dataclasses.replace(api.services.uploads, store=store)
    api.services = dataclasses.replace(api.services, store=store, uploads=uploads)
    yield api
    await api.http.close()
    await store.close()


def upload(key: str, size: int, data: bytes) -> bytes:
    """Return an upload of a file of `size` bytes that has sent only these."""
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    length = f"Content-Length: {len(form) + size + len(_END)}"
    kind = "Content-Type: multipart/form-data; boundary=x"
    return head("POST", "/images/upload", key, kind, length, "Connection: close") + form + data


async def stored(server: Served, key: str, *, seed: int) -> bytes:
    """Upload a small picture; return the first line of the response."""
    data = encoded("png", picture(seed=seed))
    reader, writer = await server.connect(upload(key, len(data), data) + _END)
    async with asyncio.timeout(60):
        line = await reader.readline()
    writer.close()
    return line


async def test_uploads_to_s3_that_stall_hold_a_share(on_s3: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imago.api.server.memory._WAIT_SECONDS", 1.0)
    slow, other = [await on_s3.new_client(name) for name in ("slow", "other")]
    async with served(on_s3, request_memory_mb=32) as api:
        # Each has sent less than a part, and may send the rest at any time.
        connected = [await api.connect(upload(slow.key, 20 * MB, encoded("png"))) for _ in range(12)]
        ended = [asyncio.create_task(problem(reader)) for reader, _ in connected]
        await until(lambda: sum(task.done() for task in ended) == 9)
        assert api.memory.used <= 32 * MB * 2 / 3
        refused = [task.result() for task in ended if task.done()]
        assert {(document["code"], document["limit"]) for document, _ in refused} == {
            ("too-much-in-flight", "request-memory")
        }
        assert all(b"Retry-After: 1" in headers for _, headers in refused)
        assert b" 201 " in await stored(api, other.key, seed=1)
        for task in ended:
            task.cancel()
        for _, writer in connected:
            writer.close()
        await until(lambda: not api.memory.used)


async def test_an_upload_waits_for_memory_and_responses_do_not_wait_behind_it(
    on_s3: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imago.api.server.memory._WAIT_SECONDS", 60.0)
    client = await on_s3.new_client("busy")
    async with served(on_s3, request_memory_mb=16) as api:
        _, stalled = await api.connect(upload(client.key, 20 * MB, encoded("png")))
        await until(lambda: api.memory.used > 5 * MB)
        last = encoded("png", picture(seed=2))
        reader, writer = await api.connect(upload(client.key, 6 * MB, last))
        waiting = asyncio.create_task(reader.readline())
        assert await api.get("/images", client.key) == 200
        assert not waiting.done()
        stalled.close()
        writer.write(bytes(6 * MB - len(last)) + _END)
        async with asyncio.timeout(60):
            assert b" 201 " in await waiting
        writer.close()


class FullReader(NoTasks):
    """Child processes that are all busy."""

    async def run(self, *_: object, **__: object) -> object:
        raise TransientFailure("stage-timeout", "busy")


async def test_pages_that_stall_hold_a_share(sqlite_db: Database, tmp_path: Path) -> None:
    asked, go = [], asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        asked.append(request)
        await go.wait()
        return web.Response(text="<p>slow</p>", content_type="text/html")

    async with site(("/slow", slow)) as server:
        fetcher = PageFetcher(
            resolve=resolver({"site.example.com": [SITE]}), allow={ip_address(SITE)}, ports={server.port or 0}
        )
        api = await serve(sqlite_db, tmp_path / "objects", pages=WebPages(fetcher, FullReader()))
        client, other = [await api.new_client(name) for name in ("slow", "other")]
        url = f"http://site.example.com:{server.port}/slow"
        async with served(api, request_memory_mb=32) as bounded:
            answers = [asyncio.create_task(_summarize(bounded, client, url)) for _ in range(10)]
            await until(lambda: sum(task.done() for task in answers) + len(asked) == 10)
            assert len(asked) == 5, "five of 4 MiB each are two thirds of 32 MiB"
            assert {task.result() for task in answers if task.done()} == {429}
            assert await bounded.get("/images?limit=200", other.key) == 200
            go.set()
            assert {await task for task in answers} == {422, 429}
            await until(lambda: not bounded.memory.used)
        await api.http.close()
        await fetcher.close()


async def _summarize(api: Served, client: Tenant, url: str) -> int:
    body = f'{{"url": "{url}"}}'.encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
    reader, writer = await api.connect(head("POST", "/ai/summarize", client.key, *lines) + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])
