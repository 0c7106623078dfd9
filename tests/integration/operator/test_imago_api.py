"""The API client against a faulty server: timeouts, retries, and replies that are not Imago's."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from imago_operator.apis import imago_api
from imago_operator.apis.imago_api import ApiRefused, ApiUnavailable, ClientOwned, ImagoApi

CLIENT = UUID(int=1)
CLIENT_BODY = {
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
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imago_api, "RETRIES", replace(imago_api.RETRIES, first_delay=0.01))


async def test_a_request_to_a_server_that_is_starting_is_retried() -> None:
    statuses = iter([503, 502, 200])

    async def handler(_: web.Request) -> web.Response:
        return web.json_response(CLIENT_BODY, status=next(statuses))

    async with served(handler) as api:
        assert (await api.put(CLIENT, {})).uuid == CLIENT


async def test_retry_after_is_respected_and_the_client_gives_up_in_the_end() -> None:
    requested_at = []

    async def handler(_: web.Request) -> web.Response:
        requested_at.append(time.monotonic())
        return web.json_response({"title": "busy"}, status=503, headers={"Retry-After": "1"})

    async with served(handler) as api:
        with pytest.raises(ApiUnavailable, match="503: busy"):
            await api.get(CLIENT)
    assert len(requested_at) == imago_api.RETRIES.attempts
    assert requested_at[1] - requested_at[0] >= 0.9


async def test_a_request_without_a_reply_times_out() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with served(handler, timeout=0.1) as api:
        with pytest.raises(ApiUnavailable, match="no reply"):
            await api.get(CLIENT)


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (409, {"code": "client-owned", "detail": "another's"}, ClientOwned, "another's"),
        (409, {"code": "conflict", "detail": "The client is being erased."}, ApiRefused, "being erased"),
        (401, {"code": "unauthenticated"}, ApiRefused, "OPERATOR_API_KEY"),
        (403, {"code": "missing-scope"}, ApiRefused, "OPERATOR_API_KEY"),
        (422, {"detail": "A field is wrong.", "errors": {"name": ["long"]}}, ApiRefused, "name"),
        (301, {}, ApiRefused, "301"),
    ],
)
async def test_a_rejected_request_is_not_retried_and_raises_the_matching_error(
    status: int, body: dict[str, object], error: type[Exception], message: str
) -> None:
    requests = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.json_response(body, status=status, headers={"Location": "http://127.0.0.1:1/elsewhere"})

    async with served(handler) as api:
        with pytest.raises(error, match=message):
            await api.put(CLIENT, {})
    assert requests == 1, "and no redirect is followed, which would disclose the key"


@pytest.mark.parametrize("text", ["<html>", "[]", "{}", '{"uuid": "x"}'])
async def test_a_reply_that_is_not_imagos_counts_as_unavailable(text: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    async with served(handler) as api:
        with pytest.raises(ApiUnavailable, match="not Imago"):
            await api.get(CLIENT)


async def test_the_number_of_concurrent_requests_is_limited() -> None:
    current = highest = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal current, highest
        current += 1
        highest = max(highest, current)
        await asyncio.sleep(0.01)
        current -= 1
        return web.json_response(CLIENT_BODY)

    async with served(handler) as api:
        await asyncio.gather(*(api.get(CLIENT) for _ in range(12)))
    assert highest == 2
