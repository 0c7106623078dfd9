"""Uploads over HTTP: accepted formats, errors, and that errors leave nothing behind."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import BinaryIO

import pytest
import sqlalchemy as sa
from aiohttp import FormData

from devtools.waiting import until
from imago.core.images.model import ImageHeader
from imago.db.tables import images, upload_intents
from tests.integration.api.conftest import Api, Tenant
from tests.support.images import FORMATS, animated, encoded, picture


async def assert_nothing_left(api: Api, tenant: Tenant) -> None:
    """Check that no row, file, intent or charge remains."""
    async with api.services.db.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(images)) == 0
        assert await connection.scalar(sa.select(sa.func.count()).select_from(upload_intents)) == 0
    assert api.files() == []
    _, me = await tenant.call("GET", "/auth/me")
    assert (me["usage"]["storage_bytes"], me["usage"]["images"]) == (0, 0)


@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format_is_detected_by_content(api: Api, tenant: Tenant, kind: str) -> None:
    data = encoded(kind)
    status, body = await tenant.upload(data, "no-extension.exe")
    assert status == 201, body
    assert body["status"] == "pending"
    _, detail = await tenant.call("GET", f"/images/{body['id']}")
    assert (detail["format"], detail["width"], detail["height"], detail["frames"]) == (kind, 64, 48, 1)
    assert detail["sha256"] == hashlib.sha256(data).hexdigest()
    assert detail["content_type"] == f"image/{kind}"
    assert [detail[part] for part in ("exif", "ocr", "ai")] == [None, None, None]
    assert len(api.published.rows) == 5


@pytest.mark.parametrize("kind", ["gif", "webp", "tiff", "png", "avif", "heic"])
async def test_the_number_of_frames_is_reported(tenant: Tenant, kind: str) -> None:
    _, body = await tenant.upload(animated(kind))
    _, detail = await tenant.call("GET", f"/images/{body['uuid']}")
    assert detail["frames"] == 3


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty-file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-media-type"),
        (b"%PDF-1.7\n" + b"x" * 500, 415, "unsupported-media-type"),
        (b"<!DOCTYPE html><script>alert(1)</script>" + b" " * 500, 415, "unsupported-media-type"),
        (b"\x00\x00\x01\x00" + b"ico" * 200, 415, "unsupported-media-type"),
        (b"just text", 415, "unsupported-media-type"),
        (encoded("png")[:20], 422, "unreadable-image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 400, 422, "unreadable-image"),
        (b"GIF89a" + b"\0" * 10, 422, "unreadable-image"),
        (encoded("png", picture(2000, 2000)), 413, "too-many-pixels"),
        (encoded("webp", picture(990, 990)), 413, "too-many-pixels"),
        (b"\xff\xd8\xff" + b"x" * 2 * 2**20, 413, "file-too-large"),
    ],
)
async def test_invalid_files_are_rejected_and_leave_nothing_behind(
    api: Api, tenant: Tenant, data: bytes, status: int, code: str
) -> None:
    returned, problem = await tenant.upload(data)
    assert (returned, problem["code"]) == (status, code)
    await assert_nothing_left(api, tenant)


@pytest.mark.parametrize(("width", "expected_reads"), [(64, 0), (600, 1)])
async def test_only_the_header_of_a_large_file_is_read_from_storage(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, width: int, expected_reads: int
) -> None:
    keys: list[str] = []
    store = api.services.store
    examine = store.examine

    async def counted(key: str, read: Callable[[BinaryIO], ImageHeader]) -> ImageHeader:
        keys.append(key)
        return await examine(key, read)

    monkeypatch.setattr(store, "examine", counted)
    _, body = await tenant.upload(encoded("bmp", picture(width, 300)))
    _, detail = await tenant.call("GET", f"/images/{body['id']}")
    assert (detail["width"], detail["height"], len(keys)) == (width, 300, expected_reads)


async def test_a_form_without_the_field_is_rejected(api: Api, tenant: Tenant) -> None:
    form = FormData()
    form.add_field("image", encoded(), filename="a.jpg")
    status, problem = await tenant.call("POST", "/images/upload", data=form)
    assert (status, problem["code"]) == (422, "validation-failed")
    assert "file" in problem["errors"]
    for body in ({"json": {}}, {"data": b"raw"}, {}):
        status, problem = await tenant.call("POST", "/images/upload", **body)
        assert (status, problem["code"]) == (422, "validation-failed"), body
    await assert_nothing_left(api, tenant)


async def test_a_malformed_form_is_rejected(api: Api, tenant: Tenant) -> None:
    for body in (
        b"",
        b"--x",
        b"--x\r\n\r\n",
        b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n",
        b'--x\r\nContent-Disposition: form-data; name="\0"\r\n\r\n',
    ):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        status, problem = await tenant.call("POST", "/images/upload", data=body, headers=headers)
        assert (status, problem["status"]) == (422, 422), (body, problem)
    await assert_nothing_left(api, tenant)


async def test_small_fields_before_the_file_are_ignored(tenant: Tenant) -> None:
    form = FormData()
    form.add_field("note", "hello")
    form.add_field("file", encoded(), filename="a.jpg")
    assert (await tenant.call("POST", "/images/upload", data=form))[0] == 201


async def test_an_exceeded_quota_is_reported_with_usage_and_limit(api: Api) -> None:
    tenant = await api.new_client(storage_bytes=1500)
    data = encoded("bmp", picture(20, 15))
    assert (await tenant.upload(data))[0] == 201
    status, problem = await tenant.upload(data)
    assert (status, problem["code"]) == (413, "quota-exceeded")
    assert problem["storage_used_bytes"] == len(data)
    assert problem["storage_limit_bytes"] == 1500
    assert len(api.files()) == 1


async def test_a_used_up_quota_is_reported_before_the_body_is_read(api: Api) -> None:
    tenant = await api.new_client(images=0)
    status, problem = await tenant.upload(encoded())
    assert (status, problem["code"]) == (413, "quota-exceeded")
    assert api.files() == []


async def test_a_lost_connection_leaves_nothing_behind(api: Api, tenant: Tenant) -> None:
    assert api.http.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", api.http.port)
    head = (
        "POST /images/upload HTTP/1.1\r\nHost: x\r\n"
        f"X-API-Key: {tenant.key}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 2000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    )
    # More than is buffered before the first write.
    writer.write(head.encode() + encoded("jpeg", picture(600, 600)) + bytes(1_500_000))
    await writer.drain()
    await until(_has_files(api), what="the upload to start")
    writer.close()
    await writer.wait_closed()
    del reader

    async def cleaned_up() -> bool:
        try:
            await assert_nothing_left(api, tenant)
        except AssertionError:
            return False
        return True

    await until(cleaned_up, what="the interrupted upload to be cleaned up")


def _has_files(api: Api):
    async def condition() -> bool:
        return bool(api.files())

    return condition


async def test_a_stalled_upload_times_out(sqlite_db, tmp_path) -> None:
    from tests.integration.api.conftest import serve

    api = await serve(sqlite_db, tmp_path / "slow", upload_idle_timeout=0.2)
    tenant = await api.new_client()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.http.port)
    head = (
        "POST /images/upload HTTP/1.1\r\nHost: x\r\n"
        f"X-API-Key: {tenant.key}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    )
    writer.write(head.encode() + b"\xff\xd8\xff" + b"x" * 1000)
    status = await asyncio.wait_for(reader.readline(), 10)
    assert b" 408 " in status
    writer.close()
    await assert_nothing_left(api, tenant)
    await api.http.close()


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("French", "L'image est enregistrée et attend son traitement."),
        ("en-GB", "The image is stored and queued for processing."),
        ("Deutsch", "The image is stored and queued for processing."),
    ],
)
async def test_the_message_is_in_the_clients_language(api: Api, tenant: Tenant, language: str, message: str) -> None:
    path = f"/auth/clients/{tenant.client.uuid}"
    changes = {"pipeline": {"description_language": language}}
    assert (await api.call("PATCH", path, json=changes))[0] == 200
    for _ in range(2):
        _, body = await tenant.upload(encoded(), **{"Idempotency-Key": "k"})
        assert body["message"] == message


async def test_the_same_bytes_are_reported_as_a_duplicate(tenant: Tenant) -> None:
    _, first = await tenant.upload(encoded())
    _, second = await tenant.upload(encoded(), "again.jpg")
    assert (first["duplicate_of"], second["duplicate_of"]) == (None, first["id"])


async def test_a_hostile_file_name_is_cleaned(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded(), "../../../etc/cron.d/x\u202egpj.exe")
    assert body["original_name"] == "xgpj.exe"
