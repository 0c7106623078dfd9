"""S3 on a real server: URLs, unfinished uploads, checksums, and a server that is away, hangs or fails."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.integration.storage.conftest import s3_settings
from tests.support.s3 import SECRET_KEY, S3Server
from yarl import URL

from imago.domain.times import utc_now
from imago.storage.factory import build_store
from imago.storage.s3 import PART_BYTES, S3Store
from imago.storage.store import StorageFull, StorageUnavailable, UrlRequest


def request(key: str, name: str = 'né "x".png', *, seconds: int = 60) -> UrlRequest:
    return UrlRequest(key, "image/png", name, "inline", utc_now() + timedelta(seconds=seconds))


async def fetch(url: str) -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def stored(s3: S3Store, key: str, data: bytes) -> None:
    async with s3.create(key) as writer:
        await writer.write(data)
        await writer.commit()


async def unfinished(s3: S3Store) -> list[str]:
    return [upload["Key"] for upload in (await s3.call("list_multipart_uploads")).get("Uploads", [])]


async def test_a_url_opens_the_object_under_our_type_and_name(s3: S3Store) -> None:
    await stored(s3, "a/original", b"<script>alert(1)</script>")
    status, headers, body = await fetch(await s3.signed_url(request("a/original")))
    assert (status, body) == (200, b"<script>alert(1)</script>")
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"].startswith("inline; filename=")


async def test_a_tampered_expired_or_bare_url_opens_nothing(s3: S3Store, s3_server: S3Server) -> None:
    await stored(s3, "a/original", b"x")
    await stored(s3, "b/original", b"y")
    url = await s3.signed_url(request("a/original"))
    assert (await fetch(url.replace("/a/", "/b/")))[0] == 403
    assert (await fetch(url.replace("image%2Fpng", "text%2Fhtml")))[0] == 403
    assert (await fetch(f"{s3_server.url}/imago-test/a/original"))[0] == 403
    short = await s3.signed_url(request("a/original", seconds=1))
    await asyncio.sleep(2.1)
    assert (await fetch(short))[0] == 403


async def test_urls_name_the_public_endpoint_and_the_addressing(s3_server: S3Server) -> None:
    settings = s3_settings(s3_server.url, s3_public_endpoint_url="https://files.example.com", s3_addressing="virtual")
    store = S3Store(settings)
    await store.open()
    url = URL(await store.signed_url(request("a/original")), encoded=True)
    await store.close()
    assert (url.scheme, url.host, url.path) == ("https", "imago-test.files.example.com", "/a/original")


async def test_virtual_host_addressing_works(s3: S3Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not every resolver knows that names under localhost are this machine (RFC 6761).
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


async def test_an_object_without_our_url_is_a_download_of_bytes(s3: S3Store) -> None:
    for key, size in (("small/original", 10), ("large/original", PART_BYTES + 10)):
        await stored(s3, key, b"<" * size)
        head = await s3.call("head_object", Key=key)
        assert (head["ContentType"], head["ContentDisposition"]) == ("application/octet-stream", "attachment")


async def test_memory_does_not_grow_with_the_upload(s3: S3Store) -> None:
    chunk = b"x" * 256 * 1024
    tracemalloc.start()
    async with s3.create("a/original") as writer:
        for _ in range(4 * 48):
            await writer.write(chunk)
        await writer.commit()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert await s3.size("a/original") == 48 * 2**20
    assert peak < 4 * PART_BYTES, f"{peak / 2**20:.0f} MiB for an upload of 48"


async def test_an_abandoned_upload_leaves_no_parts(s3: S3Store) -> None:
    async with s3.create("a/original") as writer:
        await writer.write(b"x" * (PART_BYTES + 1))
        assert await unfinished(s3) == ["a/original"]
    assert await unfinished(s3) == []


async def test_deleting_takes_along_what_a_killed_process_uploaded(s3: S3Store) -> None:
    for key in ("a/original", "a/original2"):
        begun = await s3.call("create_multipart_upload", Key=key)
        await s3.call("upload_part", Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 100)
    await s3.delete("a/original")
    assert await unfinished(s3) == ["a/original2"], "only the object's own parts go"
    await s3.delete("a/original2")
    assert await unfinished(s3) == []


async def test_a_body_that_was_damaged_on_its_way_is_refused(s3: S3Store) -> None:
    with pytest.raises(StorageUnavailable):
        await s3.call("put_object", Key="a/original", Body=b"damaged", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert await s3.size("a/original") is None


@asynccontextmanager
async def answering(status: int, code: str) -> AsyncIterator[str]:
    """A server that answers everything with an error of S3."""

    async def fail(_request: web.Request) -> web.Response:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        return web.Response(status=status, body=body.encode(), content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", fail)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


@asynccontextmanager
async def hanging() -> AsyncIterator[str]:
    """A server that accepts and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[S3Store]:
    store = S3Store(s3_settings(url, s3_timeout=0.1))
    await store.open()
    yield store
    await store.close()


async def test_trouble_is_told_as_such_in_time_and_without_secrets(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"x")
    for trouble in (answering(500, "InternalError"), answering(503, "SlowDown"), hanging()):
        async with trouble as url, opened(url) as store:
            work = {
                "put": lambda: store.put("a/b", source, content_type="image/png"),
                "size": lambda: store.size("a/b"),
                "check": store.check,
                "delete": lambda: store.delete("a/b"),
                "upload": lambda: stored(store, "a/b", b"x" * (PART_BYTES + 1)),
            }
            for name, call in work.items():
                async with asyncio.timeout(20):
                    with pytest.raises(StorageUnavailable) as caught:
                        await call()
                text = f"{caught.value!r} {caught.value.__cause__!r}"
                assert SECRET_KEY not in text, name
                assert url not in text, name


async def test_a_server_that_is_away_is_told_as_away() -> None:
    async with opened("http://127.0.0.1:9") as store:
        with pytest.raises(StorageUnavailable):
            await store.check()


@pytest.mark.parametrize(("status", "code"), [(507, "InsufficientStorage"), (400, "XMinioStorageFull")])
async def test_a_full_store_is_told_as_full(status: int, code: str) -> None:
    async with answering(status, code) as url, opened(url) as store:
        with pytest.raises(StorageFull):
            await stored(store, "a/b", b"x")


async def test_a_bucket_that_isnt_there_does_not_keep_a_process_from_starting(s3_server: S3Server) -> None:
    settings = s3_settings(s3_server.url).model_copy(update={"s3_bucket": "no-such-bucket"})
    store = await build_store(settings)
    with pytest.raises(StorageUnavailable):
        await store.check()
    await store.close()


def test_half_a_key_pair_is_refused() -> None:
    settings = s3_settings("http://127.0.0.1:9").model_copy(update={"s3_secret_key": None})
    with pytest.raises(ValueError, match="S3_SECRET_KEY"):
        S3Store(settings)
