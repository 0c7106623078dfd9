"""Idempotency-Key: a repeated upload has one effect and one response."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.core.errors import IdempotencyInFlight
from imago.core.uploads.idempotency import (
    Completion,
    FirstResponse,
    KeyLease,
    acquire_key,
    complete_key,
    release_key,
    renew_key,
)
from imago.db.engine import Database
from imago.db.tables import idempotency_keys
from tests.integration.api.conftest import Api, Tenant
from tests.support.images import encoded, picture
from tests.support.samples import make_client

PHOTO = encoded("jpeg")
OTHER = encoded("jpeg", picture(80, 60))
LEASE, DAY = timedelta(seconds=30), timedelta(days=1)


async def test_a_repeated_upload_returns_the_first_response_and_creates_no_image(api: Api, tenant: Tenant) -> None:
    key = {"Idempotency-Key": "order-42/photo"}
    first = await tenant.upload(PHOTO, **key)
    second = await tenant.upload(PHOTO, **key)
    assert first == second
    assert first[0] == 201
    assert (await tenant.call("GET", "/auth/me"))[1]["usage"]["images"] == 1
    assert len(api.files()) == 1


async def test_a_replayed_response_has_a_header_that_says_so(api: Api, tenant: Tenant) -> None:
    for expected in (None, "true"):
        headers = {"X-API-Key": tenant.key, "Idempotency-Key": "k"}
        async with api.http.post("/images/upload", data={"file": PHOTO}, headers=headers) as response:
            assert response.status == 201
            assert response.headers.get("Idempotency-Replayed") == expected


@pytest.mark.parametrize(("data", "name"), [(OTHER, "photo.jpg"), (PHOTO, "other.jpg")])
async def test_another_file_or_name_under_the_key_is_rejected(tenant: Tenant, data: bytes, name: str) -> None:
    assert (await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}))[0] == 201
    status, problem = await tenant.upload(data, name, **{"Idempotency-Key": "k"})
    assert (status, problem["code"]) == (422, "idempotency-mismatch")


async def test_the_same_key_of_another_client_is_another_key(api: Api, tenant: Tenant) -> None:
    other = await api.new_client("other")
    mine = await tenant.upload(PHOTO, **{"Idempotency-Key": "k"})
    tsuccessors = await other.upload(OTHER, **{"Idempotency-Key": "k"})
    assert (mine[0], tsuccessors[0]) == (201, 201)
    assert mine[1]["id"] != tsuccessors[1]["id"]


async def test_a_rejected_upload_releases_the_key(tenant: Tenant) -> None:
    assert (await tenant.upload(b"no image" * 100, **{"Idempotency-Key": "k"}))[0] == 415
    assert (await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}))[0] == 201


async def test_a_repeated_upload_is_replayed_although_the_quota_is_used_up(api: Api) -> None:
    tenant = await api.new_client("small", images=1)
    first = await tenant.upload(PHOTO, **{"Idempotency-Key": "k"})
    assert await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}) == first
    assert (await tenant.upload(PHOTO))[1]["code"] == "quota-exceeded"


@pytest.mark.parametrize("key", ["x" * 256, "with space", "é"])
async def test_an_invalid_key_is_rejected(tenant: Tenant, key: str) -> None:
    status, problem = await tenant.upload(PHOTO, **{"Idempotency-Key": key})
    assert (status, problem["code"]) == (422, "validation-failed")


async def test_a_second_request_is_rejected_while_the_first_is_in_progress(api: Api, tenant: Tenant) -> None:
    proceed = asyncio.Event()

    async def body() -> object:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n\r\n' + PHOTO
        await proceed.wait()
        yield b"\r\n--x--\r\n"

    headers = {"Idempotency-Key": "k", "Content-Type": "multipart/form-data; boundary=x"}
    first = asyncio.create_task(tenant.call("POST", "/images/upload", data=body(), headers=headers))

    async def held() -> bool:
        async with api.services.db.read() as connection:
            return bool(await connection.scalar(sa.select(sa.func.count()).select_from(idempotency_keys)))

    await until(held, what="the first request to hold the key")
    async with api.http.post(
        "/images/upload", data={"file": PHOTO}, headers={"X-API-Key": tenant.key, "Idempotency-Key": "k"}
    ) as response:
        assert (response.status, (await response.json())["code"]) == (409, "idempotency-in-flight")
        assert 1 <= int(response.headers["Retry-After"]) <= 30
    proceed.set()
    status, accepted = await first
    assert status == 201
    assert (await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}))[1] == accepted


async def test_one_of_many_concurrent_requests_acquires_the_key(db: Database) -> None:
    client = await make_client(db)

    async def acquire() -> KeyLease | None:
        try:
            held = await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY)
        except IdempotencyInFlight:
            return None
        assert isinstance(held, KeyLease)
        return held

    assert len([held for held in await asyncio.gather(*(acquire() for _ in range(12))) if held]) == 1


async def test_the_key_of_a_dead_request_is_taken_over_and_its_late_commit_is_rejected(db: Database) -> None:
    client = await make_client(db)
    dead = await acquire_key(db, client.id, "k", lease=timedelta(seconds=-1), ttl=DAY)
    successor = await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY)
    assert isinstance(dead, KeyLease)
    assert isinstance(successor, KeyLease)
    assert not await renew_key(db, dead, lease=LEASE)
    with pytest.raises(IdempotencyInFlight):
        async with db.write() as connection:
            await complete_key(connection, Completion(dead, "f", DAY), {"id": 1})
    await release_key(db, dead)
    assert await renew_key(db, successor, lease=LEASE)
    async with db.write() as connection:
        await complete_key(connection, Completion(successor, "f", DAY), {"id": 2})
    await release_key(db, successor)
    assert await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY) == FirstResponse("f", {"id": 2})


async def test_a_key_can_be_reused_after_its_expiry(db: Database) -> None:
    client = await make_client(db)
    held = await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY)
    assert isinstance(held, KeyLease)
    async with db.write() as connection:
        await complete_key(connection, Completion(held, uuid4().hex, timedelta(seconds=-1)), {"id": 1})
    assert isinstance(await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY), KeyLease)
