"""Idempotency-Key: one upload however often it is sent."""

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


async def test_a_repetition_gives_the_first_answer_and_no_second_image(api: Api, tenant: Tenant) -> None:
    key = {"Idempotency-Key": "order-42/photo"}
    first = await tenant.upload(PHOTO, **key)
    again = await tenant.upload(PHOTO, **key)
    assert first == again
    assert first[0] == 201
    assert (await tenant.call("GET", "/auth/me"))[1]["usage"]["images"] == 1
    assert len(api.files()) == 1


async def test_a_repetition_says_that_it_is_one(api: Api, tenant: Tenant) -> None:
    for expected in (None, "true"):
        headers = {"X-API-Key": tenant.key, "Idempotency-Key": "k"}
        async with api.http.post("/images/upload", data={"file": PHOTO}, headers=headers) as answer:
            assert answer.status == 201
            assert answer.headers.get("Idempotency-Replayed") == expected


@pytest.mark.parametrize(("data", "name"), [(OTHER, "photo.jpg"), (PHOTO, "other.jpg")])
async def test_another_file_or_name_under_the_key_is_refused(tenant: Tenant, data: bytes, name: str) -> None:
    assert (await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}))[0] == 201
    status, problem = await tenant.upload(data, name, **{"Idempotency-Key": "k"})
    assert (status, problem["code"]) == (422, "idempotency-mismatch")


async def test_the_same_key_of_another_client_is_another_key(api: Api, tenant: Tenant) -> None:
    other = await api.new_client("other")
    mine = await tenant.upload(PHOTO, **{"Idempotency-Key": "k"})
    theirs = await other.upload(OTHER, **{"Idempotency-Key": "k"})
    assert (mine[0], theirs[0]) == (201, 201)
    assert mine[1]["id"] != theirs[1]["id"]


async def test_a_refused_upload_leaves_the_key_free(tenant: Tenant) -> None:
    assert (await tenant.upload(b"no image" * 100, **{"Idempotency-Key": "k"}))[0] == 415
    assert (await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}))[0] == 201


async def test_a_repetition_is_answered_where_the_quota_is_used_up_by_now(api: Api) -> None:
    tenant = await api.new_client("small", images=1)
    first = await tenant.upload(PHOTO, **{"Idempotency-Key": "k"})
    assert await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}) == first
    assert (await tenant.upload(PHOTO))[1]["code"] == "quota-exceeded"


@pytest.mark.parametrize("key", ["x" * 256, "with space", "é"])
async def test_a_key_that_cant_be_stored_is_refused(tenant: Tenant, key: str) -> None:
    status, problem = await tenant.upload(PHOTO, **{"Idempotency-Key": key})
    assert (status, problem["code"]) == (422, "validation-failed")


async def test_a_second_request_while_the_first_streams_is_told_to_wait(api: Api, tenant: Tenant) -> None:
    go_on = asyncio.Event()

    async def body() -> object:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n\r\n' + PHOTO
        await go_on.wait()
        yield b"\r\n--x--\r\n"

    headers = {"Idempotency-Key": "k", "Content-Type": "multipart/form-data; boundary=x"}
    first = asyncio.create_task(tenant.call("POST", "/images/upload", data=body(), headers=headers))

    async def held() -> bool:
        async with api.services.db.read() as connection:
            return bool(await connection.scalar(sa.select(sa.func.count()).select_from(idempotency_keys)))

    await until(held, what="the first request to hold the key")
    async with api.http.post(
        "/images/upload", data={"file": PHOTO}, headers={"X-API-Key": tenant.key, "Idempotency-Key": "k"}
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "idempotency-in-flight")
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
    go_on.set()
    status, accepted = await first
    assert status == 201
    assert (await tenant.upload(PHOTO, **{"Idempotency-Key": "k"}))[1] == accepted


async def test_one_of_many_at_once_gets_the_key(db: Database) -> None:
    client = await make_client(db)

    async def claim() -> KeyLease | None:
        try:
            held = await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY)
        except IdempotencyInFlight:
            return None
        assert isinstance(held, KeyLease)
        return held

    assert len([held for held in await asyncio.gather(*(claim() for _ in range(12))) if held]) == 1


async def test_a_dead_holders_key_is_taken_over_and_its_late_commit_refused(db: Database) -> None:
    client = await make_client(db)
    dead = await acquire_key(db, client.id, "k", lease=timedelta(seconds=-1), ttl=DAY)
    heir = await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY)
    assert isinstance(dead, KeyLease)
    assert isinstance(heir, KeyLease)
    assert not await renew_key(db, dead, lease=LEASE)
    with pytest.raises(IdempotencyInFlight):
        async with db.write() as connection:
            await complete_key(connection, Completion(dead, "f", DAY), {"id": 1})
    await release_key(db, dead)
    assert await renew_key(db, heir, lease=LEASE)
    async with db.write() as connection:
        await complete_key(connection, Completion(heir, "f", DAY), {"id": 2})
    await release_key(db, heir)
    assert await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY) == FirstResponse("f", {"id": 2})


async def test_an_answer_is_forgotten_after_its_time(db: Database) -> None:
    client = await make_client(db)
    held = await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY)
    assert isinstance(held, KeyLease)
    async with db.write() as connection:
        await complete_key(connection, Completion(held, uuid4().hex, timedelta(seconds=-1)), {"id": 1})
    assert isinstance(await acquire_key(db, client.id, "k", lease=LEASE, ttl=DAY), KeyLease)
