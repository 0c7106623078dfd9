"""The client of the API against a server that misbehaves: deadlines, retries, and what is no answer of Imago's."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from imago_operator import imago_api
from imago_operator.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ImagoApi

CLIENT = UUID(int=1)
ANSWER = {
    "uuid": str(CLIENT),
    "owner": "o",
    "active": True,
    "lane": "standard",
    "lane_open": 0,
    "usage": {},
    "keys": [],
    "erasure": None,
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler, *, timeout: float = 5) -> AsyncIterator[ImagoApi]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with (
        TestServer(app) as server,
        ImagoApi(str(server.make_url("")).rstrip("/"), "key", timeout=timeout, parallel=2) as api,
    ):
        yield api


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imago_api, "FIRST_PAUSE", 0.01)


async def test_a_server_that_is_starting_is_asked_again() -> None:
    answers = iter([503, 502, 200])

    async def handler(_: web.Request) -> web.Response:
        return web.json_response(ANSWER, status=next(answers))

    async with served(handler) as api:
        assert (await api.put(CLIENT, {})).uuid == CLIENT


async def test_who_is_told_to_come_back_waits_and_gives_up_in_the_end() -> None:
    asked = []

    async def handler(_: web.Request) -> web.Response:
        asked.append(time.monotonic())
        return web.json_response({"title": "busy"}, status=503, headers={"Retry-After": "1"})

    async with served(handler) as api:
        with pytest.raises(ApiUnavailable, match="503: busy"):
            await api.get(CLIENT)
    assert len(asked) == imago_api.TRIES
    assert asked[1] - asked[0] >= 0.9


async def test_an_answer_that_never_comes_is_waited_for_no_longer_than_the_deadline() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with served(handler, timeout=0.1) as api:
        with pytest.raises(ApiUnavailable, match="no answer"):
            await api.get(CLIENT)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (409, {"code": "client-owned", "detail": "another's"}, ClientOwned, "another's"),
        (409, {"code": "conflict", "detail": "The client is being erased."}, ApiRefused, "being erased"),
        (401, {"code": "unauthenticated"}, ApiRefused, "OPERATOR_API_KEY"),
        (403, {"code": "missing-scope"}, ApiRefused, "OPERATOR_API_KEY"),
        (422, {"detail": "A field is wrong.", "errors": {"name": ["long"]}}, ApiRefused, "name"),
        (301, {}, ApiRefused, "301"),
    ],
)
async def test_a_refusal_is_not_repeated_and_is_told_by_its_kind(
    status: int, body: dict[str, object], error: type[Exception], said: str
) -> None:
    asked = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response(body, status=status, headers={"Location": "http://127.0.0.1:1/elsewhere"})

    async with served(handler) as api:
        with pytest.raises(error, match=said):
            await api.put(CLIENT, {})
    assert asked == 1, "and no redirect is followed with the key in hand"


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"uuid": "x"}'])
async def test_what_is_no_answer_of_imagos_is_taken_for_none(text: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    async with served(handler) as api:
        with pytest.raises(ApiUnavailable, match="isn't Imago's"):
            await api.get(CLIENT)


async def test_no_more_than_so_many_requests_are_under_way_at_once() -> None:
    now = most = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.json_response(ANSWER)

    async with served(handler) as api:
        await asyncio.gather(*(api.get(CLIENT) for _ in range(12)))
    assert most == 2
