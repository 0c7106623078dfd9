"""`imago upload` against a busy server."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from imago.cli import uploading
from imago.cli.http_client import Target

DATA = b"not a photo, but this server accepts it" * 50_000


@dataclass
class Server:
    """Refuses `busy` uploads, then accepts."""

    busy: int
    retry_after: str = "0"
    status: int = 503
    url: str = ""
    received: list[tuple[str, bytes]] = field(default_factory=list)

    async def upload(self, request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        self.received.append((request.headers["Idempotency-Key"], await part.read()))  # type: ignore[union-attr]
        if len(self.received) <= self.busy:
            problem = {"code": "busy", "detail": "Try again later."}
            return web.json_response(problem, status=self.status, headers={"Retry-After": self.retry_after})
        return web.json_response({"id": 7}, status=201)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server(busy=2)
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/images/upload", served.upload)
    async with TestServer(app) as running:
        served.url = f"http://127.0.0.1:{running.port}/"
        yield served


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(DATA)
    return path


async def upload(server: Server, path: Path) -> int:
    return await uploading.upload_all(Target(server.url, "key"), [path], wait=False, timeout=10, as_json=True)


@pytest.mark.parametrize("status", [429, 503])
async def test_an_upload_is_retried_under_one_idempotency_key_while_the_api_is_busy(
    server: Server, photo: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = status
    assert await upload(server, photo) == 0
    assert [body == DATA for _, body in server.received] == [True, True, True]
    assert len({key for key, _ in server.received}) == 1
    assert json.loads(capsys.readouterr().out)[0]["upload"] == {"id": 7}


async def test_an_upload_fails_immediately_if_the_api_asks_for_too_long_a_wait(
    server: Server, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.retry_after = "86400"
    assert await upload(server, photo) == 1
    assert len(server.received) == 1
    assert json.loads(capsys.readouterr().out)[0]["error"] == "busy: Try again later."


async def test_a_permanent_refusal_is_not_retried(server: Server, photo: Path) -> None:
    server.status = 415
    assert await upload(server, photo) == 1
    assert len(server.received) == 1
