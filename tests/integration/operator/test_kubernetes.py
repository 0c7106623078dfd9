"""The client of the Kubernetes API against a server that replies with errors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from imago_operator.apis import kubernetes
from imago_operator.apis.kubernetes import Kubernetes, KubernetesRefused, KubernetesUnavailable, ObjectConflict

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[Kubernetes]:
    """Run an API server; each reading of the credentials returns another token."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    tokens = (f"token-{number}" for number in count())
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        credentials = lambda: kopf.ConnectionInfo(server=url, token=next(tokens))
        async with Kubernetes(timeout=5, credentials=credentials) as client:
            yield client


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "RETRIES", replace(kubernetes.RETRIES, first_delay=0.01))


async def test_a_transient_error_is_retried() -> None:
    statuses = iter([503, 429, 200])

    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Secret"}, status=next(statuses))

    async with served(handler) as client:
        assert await client.get("/api/v1/namespaces/a/secrets/b") == {"kind": "Secret"}


async def test_an_error_that_persists_is_reported_with_the_servers_message() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"message": "etcd is down"}, status=500)

    async with served(handler) as client:
        with pytest.raises(KubernetesUnavailable, match="500: etcd is down"):
            await client.get("/api/v1/namespaces/a")


async def test_a_rejected_token_is_replaced_by_the_current_one() -> None:
    used: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        used.append(request.headers["Authorization"])
        return web.json_response({}, status=401 if len(used) == 1 else 200)

    async with served(handler) as client:
        assert await client.get("/api/v1/namespaces/a") == {}
    assert len(set(used)) == len(used) == 2


@pytest.mark.parametrize(
    ("status", "error"), [(409, ObjectConflict), (403, KubernetesRefused), (422, KubernetesRefused)]
)
async def test_a_rejected_request_is_not_retried(status: int, error: type[Exception]) -> None:
    requests = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.json_response({"message": "because"}, status=status)

    async with served(handler) as client:
        with pytest.raises(error, match="because"):
            await client.patch("/api/v1/namespaces/a/secrets/b", {"data": {}})
    assert requests == 1


async def test_a_missing_object_reads_as_none_is_deleted_already_and_cannot_be_patched() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"message": "not found"}, status=404)

    async with served(handler) as client:
        assert await client.get("/api/v1/namespaces/a/secrets/b") is None
        await client.delete("/api/v1/namespaces/a/secrets/b")
        with pytest.raises(ObjectConflict):
            await client.patch("/api/v1/namespaces/a/secrets/b", {"data": {}})
