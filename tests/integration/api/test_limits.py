"""Rate limits, limits by address, concurrent uploads, and CORS."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData

from devtools.waiting import until
from imago.core.clients.gcra import Rate
from imago.core.clients.rate_limits import expire_rates
from imago.db.engine import Database, DatabaseUnavailable
from imago.telemetry.metrics import RATE_FALLBACK
from tests.integration.api.conftest import ADMIN_KEY, Api, serve
from tests.support.images import encoded


@pytest.fixture
async def api(db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """A served API with ordinary limits by address, on each database."""
    served = await serve(
        db, tmp_path / "objects", anonymous_per_minute=60, anonymous_burst=5, files_burst=50, uploads_per_client=2
    )
    yield served
    await served.http.close()


async def headers_of(api: Api, key: str, method: str = "GET", path: str = "/auth/me") -> tuple[int, dict[str, str]]:
    async with api.http.request(method, path, headers={"X-API-Key": key}) as response:
        return response.status, dict(response.headers)


async def test_a_client_is_limited_to_its_burst_and_receives_rate_limit_headers(api: Api) -> None:
    tenant = await api.new_client(requests_per_minute=60, burst=3)
    seen = []
    for _ in range(3):
        status, headers = await headers_of(api, tenant.key)
        assert status == 200
        seen.append((headers["RateLimit-Limit"], headers["RateLimit-Remaining"], headers["RateLimit-Reset"]))
    assert seen == [("3", "2", "1"), ("3", "1", "2"), ("3", "0", "3")]
    async with api.http.get("/auth/me", headers={"X-API-Key": tenant.key}) as response:
        body = await response.json()
        assert (response.status, body["code"]) == (429, "rate-limited")
        assert response.content_type == "application/problem+json"
        assert response.headers["Retry-After"] == "1"
        assert response.headers["RateLimit-Remaining"] == "0"

    async def again() -> bool:
        return (await headers_of(api, tenant.key))[0] == 200

    await until(again, what="the next request to be accepted", timeout=3)


async def test_the_rate_of_one_client_does_not_affect_another(api: Api) -> None:
    fast, slow = await api.new_client(burst=1, requests_per_minute=1), await api.new_client(burst=1)
    assert [(await headers_of(api, fast.key))[0] for _ in range(2)] == [200, 429]
    assert (await headers_of(api, slow.key))[0] == 200


async def test_of_concurrent_requests_only_the_burst_is_accepted(api: Api) -> None:
    tenant = await api.new_client(requests_per_minute=1, burst=10)
    statuses = await asyncio.gather(*(headers_of(api, tenant.key) for _ in range(40)))
    assert sorted(status for status, _ in statuses) == [200] * 10 + [429] * 30


async def test_idle_rows_of_rates_are_deleted(db: Database, api: Api) -> None:
    await api.services.auth.client_rates.spend("client 1", Rate(600_000, 1))

    async def deleted() -> bool:
        return await expire_rates(db, idle=timedelta(0)) == 1

    if not db.is_sqlite:
        await until(deleted, what="an idle row to be deleted")


async def test_during_a_database_outage_reads_are_limited_per_process_and_writes_are_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await api.new_client(requests_per_minute=1, burst=2)

    async def unavailable(*_: object) -> Any:
        raise DatabaseUnavailable("down")

    assert (await headers_of(api, tenant.key))[0] == 200
    monkeypatch.setattr(type(api.services.auth.client_rates), "spend", unavailable)
    before = RATE_FALLBACK._value.get()
    statuses = [(await headers_of(api, tenant.key))[0] for _ in range(3)]
    assert statuses in ([200, 200, 429], [200, 429, 429]), "the process must limit reads itself"
    assert RATE_FALLBACK._value.get() == before + 3
    assert (await headers_of(api, tenant.key, "DELETE", "/images/1"))[0] == 503


async def test_requests_without_a_key_are_limited_by_address(api: Api) -> None:
    statuses = []
    for _ in range(7):
        async with api.http.get("/") as response:
            statuses.append(response.status)
    assert statuses == [200] * 5 + [429] * 2
    async with api.http.get("/no/such/path") as response:
        assert response.status == 429
    for path in ("/health", "/health/ready", "/metrics"):
        async with api.http.get(path) as response:
            assert response.status == 200, "probes are not limited"
    async with api.http.get("/files/signed/x") as response:
        assert response.status == 404, "signed URLs have a separate limit"


async def test_guesses_of_keys_are_limited_while_cached_keys_are_accepted(api: Api) -> None:
    tenant = await api.new_client()
    assert (await headers_of(api, tenant.key))[0] == 200
    statuses = [(await headers_of(api, "imago_wrong"))[0] for _ in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    assert (await headers_of(api, tenant.key))[0] == 200
    assert (await api.call("GET", "/auth/clients", key=ADMIN_KEY))[0] == 200


async def test_a_spoofed_header_is_ignored_without_a_trusted_proxy(api: Api) -> None:
    statuses = []
    for number in range(7):
        async with api.http.get("/", headers={"X-Forwarded-For": f"198.51.100.{number}"}) as response:
            statuses.append(response.status)
    assert statuses == [200] * 5 + [429] * 2


async def test_behind_a_trusted_proxy_each_address_has_its_own_limit(db: Database, tmp_path: Path) -> None:
    api = await serve(
        db, tmp_path / "objects", anonymous_per_minute=60, anonymous_burst=1, trusted_proxies=("127.0.0.0/8",)
    )
    statuses = []
    for number in (1, 2, 1):
        async with api.http.get("/", headers={"X-Forwarded-For": f"198.51.100.{number}"}) as response:
            statuses.append(response.status)
    await api.http.close()
    assert statuses == [200, 200, 429]


async def test_the_concurrent_uploads_of_a_client_are_limited(api: Api) -> None:
    tenant, other = await api.new_client(), await api.new_client()
    proceed = asyncio.Event()
    data = encoded()

    async def dripping() -> AsyncIterator[bytes]:
        yield data[:100]
        await proceed.wait()
        yield data[100:]

    async def slow() -> int:
        form = FormData()
        form.add_field("file", dripping(), filename="slow.jpg", content_type="image/jpeg")
        return (await tenant.call("POST", "/images/upload", data=form))[0]

    running = [asyncio.create_task(slow()) for _ in range(2)]

    async def both_held() -> bool:
        return api.services.uploads.slots._count[tenant.client.id] == 2

    await until(both_held, what="two uploads to be in progress")
    status, refused = await tenant.upload(data)
    assert (status, refused["code"], refused["uploads"]) == (429, "too-many-uploads", 2)
    assert (await other.upload(data))[0] == 201
    proceed.set()
    assert await asyncio.gather(*running) == [201, 201]
    assert (await tenant.upload(data))[0] == 201
    assert not api.services.uploads.slots._count, "slots are released"


ORIGIN = "https://app.example"


@pytest.fixture
async def browser_api(sqlite_db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    served = await serve(sqlite_db, tmp_path / "objects", cors_origins=(ORIGIN,))
    yield served
    await served.http.close()


async def preflight(
    api: Api, origin: str, method: str = "POST", path: str = "/images/upload"
) -> tuple[int, dict[str, str]]:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "x-api-key,idempotency-key,content-type",
    }
    async with api.http.options(path, headers=headers) as response:
        return response.status, dict(response.headers)


async def test_an_allowed_origin_may_send_requests_and_read_responses_and_errors(browser_api: Api) -> None:
    status, headers = await preflight(browser_api, ORIGIN)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-API-KEY" in headers["Access-Control-Allow-Headers"].upper()
    assert "Access-Control-Allow-Credentials" not in headers
    for method, path in (("DELETE", "/images/{id}"), ("PATCH", "/images/{id}"), ("GET", "/images/events")):
        assert (await preflight(browser_api, ORIGIN, method, path.format(id=1)))[0] == 200

    tenant = await browser_api.new_client()
    for key, path, expected in (
        (tenant.key, "/images", 200),
        (tenant.key, "/images/999", 404),
        ("wrong", "/images", 401),
    ):
        async with browser_api.http.get(path, headers={"Origin": ORIGIN, "X-API-Key": key}) as response:
            assert response.status == expected
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN, path
            assert "RateLimit-Remaining" in response.headers["Access-Control-Expose-Headers"]


async def test_another_origin_receives_no_cors_headers(browser_api: Api) -> None:
    status, headers = await preflight(browser_api, "https://evil.example")
    assert status == 403
    assert "Access-Control-Allow-Origin" not in headers
    tenant = await browser_api.new_client()
    response = await browser_api.http.get(
        "/images", headers={"Origin": "https://evil.example", "X-API-Key": tenant.key}
    )
    assert response.status == 200
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_without_the_setting_there_are_no_cors_headers(api: Api) -> None:
    status, headers = await preflight(api, ORIGIN)
    assert status == 405
    assert not [name for name in headers if name.startswith("Access-Control")]
