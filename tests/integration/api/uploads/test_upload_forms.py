"""Multipart forms as clients write them: the stored name and bytes, and that a broken form stores nothing."""

import asyncio
import functools
import hashlib
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from aiohttp import FormData

from imago.cli.http_client import Target
from imago.cli.uploading import upload_all
from tests.integration.api.conftest import Api, Tenant
from tests.integration.api.uploads.test_upload import assert_nothing_left
from tests.support.images import encoded

DATA = encoded()
NAME = "Été à la plage (1) 100%.jpg"


def part(disposition: str | bytes, content: bytes, *, end: bytes = b"\r\n", headers: bytes = b"") -> bytes:
    """Return a part of a form with the boundary `b`."""
    raw = disposition if isinstance(disposition, bytes) else disposition.encode()
    return b"--b" + end + b"Content-Disposition: " + raw + end + headers + end + content + end


def file_part(name: str = "a.jpg", content: bytes = DATA, **options: Any) -> bytes:
    return part(f'form-data; name="file"; filename="{name}"', content, **options)


def text_part(name: str = "note", content: bytes = b"hello") -> bytes:
    return part(f'form-data; name="{name}"', content)


async def send(tenant: Tenant, body: bytes, *, content_type: str = "multipart/form-data; boundary=b") -> Any:
    return await tenant.call("POST", "/images/upload", data=body, headers={"Content-Type": content_type})


def with_requests(url: str, key: str, path: Path) -> None:
    with path.open("rb") as file:
        requests.post(url, headers={"X-API-Key": key}, files={"file": file}, timeout=30).raise_for_status()


def with_httpx(url: str, key: str, path: Path) -> None:
    with path.open("rb") as file:
        httpx.post(url, headers={"X-API-Key": key}, files={"file": (path.name, file)}).raise_for_status()


def with_urllib(url: str, key: str, path: Path) -> None:
    # The usual recipe: a form put together by hand.
    body = file_part(path.name, path.read_bytes()) + b"--b--\r\n"
    headers = {"X-API-Key": key, "Content-Type": 'multipart/form-data; boundary="b"'}
    urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30).close()


def with_curl(url: str, key: str, path: Path, *options: str) -> None:
    command = ["curl", "-sSf", *options, "-H", f"X-API-Key: {key}", "-F", f'file=@"{path}"', url]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def with_curl_escaping(url: str, key: str, path: Path) -> None:
    with_curl(url, key, path, "--form-escape")


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@pytest.mark.parametrize(
    "client",
    [
        with_requests,
        with_httpx,
        with_urllib,
        pytest.param(with_curl, marks=needs_curl),
        pytest.param(with_curl_escaping, marks=needs_curl),
    ],
)
@pytest.mark.parametrize("name", [NAME, "100%25.png", "👨‍👩‍👧.jpg", "a;b, c=d.jpg"])
async def test_a_client_stores_the_name_of_its_file(
    api: Api, tenant: Tenant, tmp_path: Path, client: Callable[[str, str, Path], None], name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(DATA)
    await asyncio.to_thread(client, str(api.http.make_url("/images/upload")), tenant.key, path)
    assert await stored(tenant) == (name, hashlib.sha256(DATA).hexdigest())


@pytest.mark.parametrize("quote_fields", [True, False])
@pytest.mark.parametrize("name", [NAME, "100%.png", "👨‍👩‍👧.jpg", 'a "b".jpg', "a;b, c=d.jpg"])
async def test_aiohttp_stores_the_name_of_its_file(tenant: Tenant, name: str, quote_fields: bool) -> None:
    form = FormData(quote_fields=quote_fields)
    form.add_field("file", DATA, filename=name)
    assert (await tenant.call("POST", "/images/upload", data=form))[0] == 201
    assert await stored(tenant) == (name, hashlib.sha256(DATA).hexdigest())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (NAME, NAME),
        ("100%25 a%22b.png", "100%25 a%22b.png"),
        ('a "b" \\\\.jpg', ".jpg"),
        ("two\nlines.jpg", "twolines.jpg"),
        (os.fsdecode("été.jpg".encode("latin-1")), "été.jpg"),
    ],
)
async def test_the_command_stores_the_name_of_its_file(
    api: Api, tenant: Tenant, tmp_path: Path, file: str, name: str
) -> None:
    path = tmp_path / file
    path.write_bytes(DATA)
    target = Target(str(api.http.make_url("/")), tenant.key)
    assert await upload_all(target, [path], wait=False, timeout=10, as_json=True) == 0
    assert await stored(tenant) == (name, hashlib.sha256(DATA).hexdigest())


async def stored(tenant: Tenant) -> tuple[str, str]:
    """Return the name and the SHA-256 of the only image."""
    _, page = await tenant.call("GET", "/images")
    [item] = page["items"]
    _, detail = await tenant.call("GET", f"/images/{item['id']}")
    return detail["original_name"], detail["sha256"]


END = b"--b--\r\n"
LONG_BOUNDARY = "-" * 30 + "WebKitFormBoundaryabcdefgh"


def _with_long_boundary(body: bytes) -> bytes:
    return body.replace(b"--b", b"--" + LONG_BOUNDARY.encode())


ACCEPTED = {
    "plain": (file_part() + END, "a.jpg"),
    "no line break at the end": (file_part() + b"--b--", "a.jpg"),
    "text after the end": (file_part() + END + b"epilogue\r\n" * 3, "a.jpg"),
    "text before the first part": (b"preamble\r\n" + file_part() + END, "a.jpg"),
    "a line break before the first part": (b"\r\n" + file_part() + END, "a.jpg"),
    "white space after the boundary": (file_part().replace(b"--b\r\n", b"--b \t\r\n") + END, "a.jpg"),
    "other headers": (file_part(headers=b"X-A: 1\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n") + END, "a.jpg"),
    "a field after": (file_part() + text_part() + END, "a.jpg"),
    "fields around": (text_part("a") * 20 + file_part() + text_part("b") * 20 + END, "a.jpg"),
    "many fields": (text_part() * 256 + file_part() + END, "a.jpg"),
    "a charset": (text_part("_charset_", b"utf-8") + file_part("é.jpg") + END, "é.jpg"),
    "no file name": (part('form-data; name="file"', DATA) + END, "image"),
    "an empty file name": (file_part("") + END, "image"),
    "a path": (file_part(r"C:\fakepath\été.jpg") + END, "été.jpg"),
    "Latin-1": (part('form-data; name="file"; filename="été.jpg"'.encode("latin-1"), DATA) + END, "été.jpg"),
    "boundary within the file": (file_part(content=DATA + b"\r\n-b\r\n --b--\n--b--") + END, "a.jpg"),
}


@pytest.mark.parametrize("case", ACCEPTED)
async def test_a_whole_form_is_stored_byte_by_byte(tenant: Tenant, case: str) -> None:
    body, name = ACCEPTED[case]
    content = DATA + b"\r\n-b\r\n --b--\n--b--" if "within" in case else DATA
    status, answer = await send(tenant, body)
    assert status == 201, answer
    assert await stored(tenant) == (name, hashlib.sha256(content).hexdigest())


async def test_a_field_charset_before_a_long_boundary_is_ignored(tenant: Tenant) -> None:
    body = _with_long_boundary(text_part("_charset_", b"utf-8") + file_part() + END)
    status, answer = await send(tenant, body, content_type=f"multipart/form-data; boundary={LONG_BOUNDARY}")
    assert status == 201, answer


@functools.cache
def cut_forms() -> dict[str, bytes]:
    """Return forms that end too early, at every byte around a boundary and at some inside of the file."""
    whole = text_part() + file_part() + text_part() + END
    file_begins = whole.index(DATA)
    file_ends = file_begins + len(DATA)
    # The closing boundary is complete without its line break.
    positions = {*range(file_begins - 40, file_begins + 3), *range(file_ends - 20, len(whole) - 3)}
    positions |= set(range(file_begins, file_ends, max(1, len(DATA) // 20)))
    return {str(position): whole[:position] for position in sorted(positions)}


async def test_a_form_that_is_cut_off_anywhere_stores_nothing(api: Api, tenant: Tenant) -> None:
    assert len(cut_forms()) > 100
    for position, body in cut_forms().items():
        status, problem = await send(tenant, body)
        assert (status, problem["code"]) == (422, "validation-failed"), (position, problem)
        assert "file" in problem["errors"]
    await assert_nothing_left(api, tenant)


BROKEN = {
    "two files": file_part() + file_part("b.jpg") + END,
    "two files and fields": file_part() + text_part() + file_part("b.jpg", b"x") + text_part() + END,
    "an empty file and a file": file_part(content=b"") + file_part() + END,
    "line ends of Unix": (file_part(end=b"\n") + b"--b--\n"),
    "line ends of Unix after the file": file_part()[:-2] + b"\n--b--\n",
    "line ends of the old Macintosh": file_part(end=b"\r") + b"--b--\r",
    "another boundary": file_part().replace(b"--b\r\n", b"--c\r\n") + b"--c--\r\n",
    "another boundary at the end": file_part() + b"--c--\r\n",
    "a boundary with more at the end": file_part() + b"--bc--\r\n",
    "only one dash at the end": file_part() + b"--b-\r\n",
    "no closing boundary": file_part(),
    "another part instead of the end": file_part() + b"--b\r\n",
    "two file names": part('form-data; name="file"; filename="a.jpg"; filename="b.jpg"', DATA) + END,
    "no name": part('form-data; filename="a.jpg"', DATA) + END,
    "no header": b"--b\r\n\r\n" + DATA + b"\r\n" + END,
    "another name": part('form-data; name="image"; filename="a.jpg"', DATA) + END,
    "a nested form": part("form-data; name=file", DATA, headers=b"Content-Type: multipart/mixed; boundary=c\r\n") + END,
    "a transfer encoding": file_part(headers=b"Content-Transfer-Encoding: base64\r\n") + END,
    "no part": END,
    "too many fields": text_part() * 257 + file_part() + END,
    "a field that is too long": text_part(content=b"x" * 1_100_000) + file_part() + END,
    "fields that are too long together": text_part(content=b"x" * 300_000) * 4 + file_part() + END,
    "fields after the file that are too long": file_part() + text_part(content=b"x" * 600_000) * 2 + END,
    "a header that is too long": file_part("x" * 9000) + END,
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_form_is_refused_and_stores_nothing(api: Api, tenant: Tenant, case: str) -> None:
    status, problem = await send(tenant, BROKEN[case])
    assert (status, problem["code"]) == (422, "validation-failed"), problem
    assert problem["errors"]["file"] == [problem["detail"]]
    await assert_nothing_left(api, tenant)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 80,
        "image/jpeg",
    ],
)
async def test_a_content_type_without_a_boundary_is_refused(api: Api, tenant: Tenant, content_type: str) -> None:
    status, problem = await send(tenant, file_part() + END, content_type=content_type)
    assert (status, problem["code"]) == (422, "validation-failed")
    await assert_nothing_left(api, tenant)


async def test_the_error_names_the_fields_that_the_form_has(tenant: Tenant) -> None:
    _, problem = await send(tenant, text_part("image") + text_part("caption\u202e") + END)
    assert problem["detail"] == "The form has no field `file`, but `image`, `caption`."


async def test_a_file_that_is_cut_off_is_refused_when_it_is_sent_again(api: Api, tenant: Tenant) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Idempotency-Key": "k"}
    whole = file_part() + END
    for body, expected in ((whole[:-40], 422), (whole, 201), (whole[:-40], 422), (whole, 201)):
        status, _ = await tenant.call("POST", "/images/upload", data=body, headers=headers)
        assert status == expected
    assert len(api.files()) == 1
