"""The S3 store on a real server: signed URLs, multipart uploads, checksums, and failing or hanging servers."""

import asyncio
import contextlib
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from devtools.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from devtools.waiting import until
from imago.core.times import utc_now
from imago.objects.factory import build_store
from imago.objects.s3 import PART_BYTES, S3Store
from imago.objects.s3_reader import RangeReader
from imago.objects.store import StorageFull, StorageUnavailable, UrlRequest
from imago.runtime.startup import StartupError
from imago.settings import load_settings
from tests.integration.objects.conftest import s3_settings


def request(key: str, name: str = 'né "x".png', *, seconds: int = 60) -> UrlRequest:
    return UrlRequest(key, "image/png", name, "inline", utc_now() + timedelta(seconds=seconds))


async def fetch(url: str) -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as response:
        return response.status, dict(response.headers), await response.read()


async def stored(s3: S3Store, key: str, data: bytes) -> None:
    async with s3.create(key) as writer:
        await writer.write(data)
        await writer.commit()


async def unfinished(s3: S3Store) -> list[str]:
    return [upload["Key"] for upload in (await s3.call("list_multipart_uploads")).get("Uploads", [])]


async def test_a_signed_url_serves_the_object_with_its_type_and_name(s3: S3Store) -> None:
    await stored(s3, "a/original", b"<script>alert(1)</script>")
    status, headers, body = await fetch(await s3.signed_url(request("a/original")))
    assert (status, body) == (200, b"<script>alert(1)</script>")
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"].startswith("inline; filename=")


async def test_tampered_expired_and_unsigned_urls_are_rejected(s3: S3Store, s3_server: S3Server) -> None:
    await stored(s3, "a/original", b"x")
    await stored(s3, "b/original", b"y")
    url = await s3.signed_url(request("a/original"))
    assert (await fetch(url.replace("/a/", "/b/")))[0] == 403
    assert (await fetch(url.replace("image%2Fpng", "text%2Fhtml")))[0] == 403
    assert (await fetch(f"{s3_server.url}/imago-test/a/original"))[0] == 403
    short = await s3.signed_url(request("a/original", seconds=1))

    async def rejected() -> bool:
        return (await fetch(short))[0] == 403

    await until(rejected, what="a URL of one second to be rejected", timeout=5)


async def test_urls_use_the_public_endpoint_and_the_addressing_style(s3_server: S3Server) -> None:
    settings = s3_settings(s3_server.url, s3_public_endpoint_url="https://files.example.com", s3_addressing="virtual")
    store = S3Store(settings)
    await store.open()
    url = URL(await store.signed_url(request("a/original")), encoded=True)
    await store.close()
    assert (url.scheme, url.host, url.path) == ("https", "imago-test.files.example.com", "/a/original")


async def test_virtual_host_addressing_works(s3: S3Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not every resolver maps names under localhost to this host (RFC 6761).
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo",
        lambda host, *args, **kwargs: resolve(
            "127.0.0.1" if str(host).endswith("localhost") else host, *args, **kwargs
        ),
    )
    await stored(s3, "a/original", b"x")
    store = S3Store(s3_settings(f"http://localhost:{s3_server.port}", s3_addressing="virtual"))
    await store.open()
    await store.check()
    assert await store.size("a/original") == 1
    status, _, body = await fetch(await store.signed_url(request("a/original")))
    assert (status, body) == (200, b"x")
    await store.close()


async def test_an_object_without_a_signed_url_is_a_binary_download(s3: S3Store) -> None:
    for key, size in (("small/original", 10), ("large/original", PART_BYTES + 10)):
        await stored(s3, key, b"<" * size)
        head = await s3.call("head_object", Key=key)
        assert (head["ContentType"], head["ContentDisposition"]) == ("application/octet-stream", "attachment")


async def test_memory_use_does_not_grow_with_the_upload(s3: S3Store) -> None:
    chunk = b"x" * 256 * 1024
    tracemalloc.start()
    async with s3.create("a/original") as writer:
        for _ in range(4 * 48):
            await writer.write(chunk)
        await writer.commit()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert await s3.size("a/original") == 48 * 2**20
    assert peak < 2.5 * PART_BYTES, f"{peak / 2**20:.0f} MiB for an upload of 48"


async def test_all_parts_but_the_last_have_the_same_size(s3: S3Store) -> None:
    parts: list[int] = []

    class Watching(S3Store):
        async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
            if operation == "upload_part":
                parts.append(len(parameters["Body"]))
            return await super().call(operation, **parameters)

    async with like(Watching, s3) as store, store.create("a/original") as writer:
        for _ in range(100):
            await writer.write(b"x" * 200_001)
        await writer.commit()
    assert parts == [*[PART_BYTES] * 3, 20_000_100 - 3 * PART_BYTES]
    assert await s3.size("a/original") == 20_000_100


async def test_an_abandoned_upload_leaves_no_parts(s3: S3Store) -> None:
    async with s3.create("a/original") as writer:
        await writer.write(b"x" * (PART_BYTES + 1))
        assert await unfinished(s3) == ["a/original"]
    assert await unfinished(s3) == []


async def test_deletion_aborts_the_uploads_of_killed_processes(s3: S3Store) -> None:
    for key in ("a/original", "a/original2"):
        begun = await s3.call("create_multipart_upload", Key=key)
        await s3.call("upload_part", Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 100)
    await s3.delete("a/original")
    assert await unfinished(s3) == ["a/original2"], "only the object's own upload is aborted"
    await s3.delete("a/original2")
    assert await unfinished(s3) == []


@pytest.mark.parametrize("operation", ["put_object", "create_multipart_upload", "complete_multipart_upload"])
async def test_an_executed_request_without_a_response_leaves_nothing_behind(s3: S3Store, operation: str) -> None:
    executed = asyncio.Event()

    class WithoutResponse(S3Store):
        async def call(self, name: str, **parameters: Any) -> dict[str, Any]:
            response = await super().call(name, **parameters)
            if name == operation:
                executed.set()
                await asyncio.Event().wait()
            return response

    async with like(WithoutResponse, s3) as store:
        size = 100 if operation == "put_object" else PART_BYTES + 1
        upload = asyncio.create_task(stored(store, "a/original", b"x" * size))
        await executed.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
    assert await s3.size("a/original") is None
    assert await unfinished(s3) == []


async def test_a_completion_whose_response_was_lost_can_be_retried(s3: S3Store) -> None:
    class Repeating(S3Store):
        async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
            response = await super().call(operation, **parameters)
            if operation == "complete_multipart_upload":
                # This server accepts a repeated completion; others report that the upload doesn't exist.
                return await super().call(operation, **{**parameters, "UploadId": "0" * 32})
            return response

    async with like(Repeating, s3) as store:
        await stored(store, "a/original", b"x" * (PART_BYTES + 1))
    assert await s3.size("a/original") == PART_BYTES + 1


async def test_an_aborted_upload_cannot_be_committed(s3: S3Store) -> None:
    async with s3.create("a/original") as writer:
        await writer.write(b"x" * (PART_BYTES + 1))
        await s3.delete("a/original")
        with pytest.raises(StorageUnavailable):
            await writer.commit()
    assert await s3.size("a/original") is None


@pytest.mark.parametrize("size", [1000, PART_BYTES + 1000])
async def test_a_body_that_was_damaged_in_transit_is_rejected(s3: S3Store, s3_server: S3Server, size: int) -> None:
    async with Proxy(s3_server.port) as proxy, opened(proxy.url, s3_timeout=5) as store:
        await stored(store, "b/original", b"whole" * (size // 5))
        proxy.damage = True
        with pytest.raises(StorageUnavailable):
            await stored(store, "a/original", b"whole" * (size // 5))
    assert await s3.size("a/original") is None
    assert await s3.size("b/original") == size


async def test_a_wrong_checksum_is_rejected(s3: S3Store) -> None:
    # Over HTTPS, bodies are not signed, and only the client's checksum reveals damage.
    begun = await s3.call("create_multipart_upload", Key="a/original")
    part = {"UploadId": begun["UploadId"], "PartNumber": 1}
    for operation, more in (("put_object", {}), ("upload_part", part)):
        with pytest.raises(StorageUnavailable, match="BadDigest"):
            await s3.call(operation, Key="a/original", Body=b"damaged", ChecksumCRC32="AAAAAA==", **more)
    await s3.delete("a/original")
    assert await s3.size("a/original") is None


async def test_a_read_from_a_silent_server_times_out(s3: S3Store, s3_server: S3Server) -> None:
    await stored(s3, "a/original", os.urandom(1000))
    async with (
        Proxy(s3_server.port) as proxy,
        opened(proxy.url, s3_timeout=0.3) as store,
        store.reader("a/original") as stream,
    ):
        proxy.silent = True
        async with asyncio.timeout(5):
            with pytest.raises(StorageUnavailable):
                await asyncio.to_thread(stream.read, 10)


async def test_the_end_of_the_block_cancels_a_read_in_progress(s3: S3Store, s3_server: S3Server) -> None:
    await stored(s3, "a/original", os.urandom(1000))
    async with Proxy(s3_server.port) as proxy, opened(proxy.url, s3_timeout=60) as store:
        async with asyncio.timeout(10), store.reader("a/original") as stream:
            proxy.silent = True
            proxy.sent.clear()
            read = asyncio.create_task(asyncio.to_thread(stream.read, 10))
            await proxy.sent.wait()
        async with asyncio.timeout(2):
            with pytest.raises(ValueError, match="after close"):
                await read


async def test_a_read_in_the_event_loops_thread_is_rejected(s3: S3Store) -> None:
    await stored(s3, "a/original", b"x")
    async with s3.reader("a/original") as stream:
        with pytest.raises(RuntimeError):
            stream.read(1)


async def test_reading_the_rest_of_an_object_takes_few_requests() -> None:
    data, requests = os.urandom(5 * 2**20), []

    async def fetch(start: int, length: int) -> bytes:
        requests.append((start, length))
        return data[start : start + length]

    raw = RangeReader(len(data), fetch, timeout=1)
    assert await asyncio.to_thread(raw.readall) == data
    assert requests == [(0, 4 * 2**20), (4 * 2**20, 2**20)]


async def test_a_list_of_several_pages_is_complete(s3: S3Store) -> None:
    class Short(S3Store):
        async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
            return await super().call(operation, **parameters, **page)

    for index in range(5):
        await stored(s3, f"a/{index}", b"x")
    page = {"MaxKeys": 2}
    async with like(Short, s3) as store:
        assert [info.key async for info in store.list(prefix="a/")] == [f"a/{index}" for index in range(5)]


@asynccontextmanager
async def like(kind: type[S3Store], s3: S3Store) -> AsyncIterator[S3Store]:
    """Yield a store of another class on the same bucket."""
    store = kind(s3._settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class Proxy:
    """A proxy to a server that can damage requests or withhold responses."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._ends: list[asyncio.StreamWriter] = []
        self.damage = False
        self.silent = False
        self.sent = asyncio.Event()

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += [writer, far_writer]
        with contextlib.suppress(OSError):
            await asyncio.gather(self._there(reader, far_writer), self._back(far_reader, writer))

    async def _there(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            self.sent.set()
            target.write(data.replace(b"whole", b"wrong") if self.damage else data)
            await target.drain()
        target.close()

    async def _back(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not self.silent:
                target.write(data)
                await target.drain()
        target.close()


@asynccontextmanager
async def failing_server(status: int, code: str) -> AsyncIterator[str]:
    """Run a server that responds to everything with an S3 error."""

    async def fail(_request: web.Request) -> web.Response:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        return web.Response(status=status, body=body.encode(), content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", fail)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


@asynccontextmanager
async def hanging_server() -> AsyncIterator[str]:
    """Run a server that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def opened(url: str, *, s3_timeout: float = 0.1) -> AsyncIterator[S3Store]:
    store = S3Store(s3_settings(url, s3_timeout=s3_timeout))
    await store.open()
    yield store
    await store.close()


async def test_failures_are_reported_in_time_and_without_secrets(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"x")

    async def read(store: S3Store) -> None:
        async with store.reader("a/b"):
            pass

    async def copy(store: S3Store) -> None:
        async with store.local_copy("a/b"):
            pass

    async def listed(store: S3Store) -> None:
        async for _ in store.list():
            pass

    for failing in (
        failing_server(500, "InternalError"),
        failing_server(503, "SlowDown"),
        failing_server(404, "404"),
        hanging_server(),
    ):
        async with failing as url, opened(url) as store:
            work = {
                "put": store.put("a/b", source, content_type="image/png"),
                "size": store.size("a/b"),
                "check": store.check(),
                "delete": store.delete("a/b"),
                "upload": stored(store, "a/b", b"x"),
                "large upload": stored(store, "a/b", b"x" * (PART_BYTES + 1)),
                "read": read(store),
                "copy": copy(store),
                "list": listed(store),
            }
            async with asyncio.timeout(20):
                ends = await asyncio.gather(*work.values(), return_exceptions=True)
            for name, end in zip(work, ends, strict=True):
                assert isinstance(end, StorageUnavailable), f"{name} returned {end!r}"
                text = f"{end!r} {end.__cause__!r}"
                for secret in (SECRET_KEY, ACCESS_KEY, url, url.removeprefix("http://")):
                    assert secret not in text, name


async def test_an_unreachable_server_is_reported_as_unavailable() -> None:
    async with opened("http://127.0.0.1:9") as store:
        with pytest.raises(StorageUnavailable):
            await store.check()


@pytest.mark.parametrize(
    ("status", "code"), [(507, "InsufficientStorage"), (400, "XMinioStorageFull"), (403, "QuotaExceeded")]
)
async def test_a_full_store_is_reported_as_full(status: int, code: str) -> None:
    async with failing_server(status, code) as url, opened(url) as store:
        with pytest.raises(StorageFull):
            await stored(store, "a/b", b"x")


async def test_a_process_starts_without_its_bucket(s3_server: S3Server) -> None:
    settings = s3_settings(s3_server.url).model_copy(update={"s3_bucket": "no-such-bucket"})
    store = await build_store(settings)
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        await store.check()
    # Not ObjectMissing, for which a worker would dead-letter the stage.
    with pytest.raises(StorageUnavailable):
        await store.size("a/original")
    for block in (store.reader("a/original"), store.local_copy("a/original")):
        with pytest.raises(StorageUnavailable):
            async with block:
                pass
    await store.close()


def test_an_incomplete_key_pair_is_rejected() -> None:
    settings = s3_settings("http://127.0.0.1:9").model_copy(update={"s3_secret_key": None})
    with pytest.raises(StartupError, match="S3_SECRET_KEY"):
        S3Store(settings)


@pytest.mark.parametrize("url", ["s3.example.com", "ftp://example.com", "http:///bucket", "http://user:word@"])
def test_an_invalid_endpoint_url_is_rejected_without_being_logged(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", url)
    with pytest.raises(StartupError, match="S3_ENDPOINT_URL") as caught:
        load_settings()
    assert url not in str(caught.value)
