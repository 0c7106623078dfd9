"""Clients and their keys: what administrators do, what the operator does, and what neither may."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from devtools.waiting import until
from imago.api.auth import key_cache
from imago.core.clients import keys
from imago.core.times import iso_utc, utc_now
from imago.db.engine import Database
from tests.integration.api.conftest import ADMIN_KEY, OPERATOR_KEY, Api, Tenant, serve
from tests.support.images import encoded


@pytest.fixture
async def api(db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """A served API, once on each database."""
    served = await serve(db, tmp_path / "objects")
    yield served
    await served.http.close()


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the cache does is tested by itself.
    monkeypatch.setattr(key_cache, "MAX_AGE", 0.0)


async def status(api: Api, key: str) -> int:
    return (await api.call("GET", "/auth/me", key=key))[0]


async def created(api: Api, **body: Any) -> dict[str, Any]:
    code, answer = await api.call("POST", "/auth/clients", json={"name": "atelier", "plan": "free", **body})
    assert code == 201, answer
    return answer


async def acts(api: Api, client: str) -> list[str]:
    code, answer = await api.call("GET", "/admin/audit", params={"client": client})
    assert code == 200, answer
    return [record["action"] for record in answer["items"]]


async def test_a_client_is_created_shown_listed_changed_and_deactivated_and_each_act_is_written_down(api: Api) -> None:
    client = await created(api, limits={"images": 7})
    assert client["api_key"].startswith("imago_")
    assert client["limits"]["images"] == 7
    path = f"/auth/clients/{client['uuid']}"
    code, shown = await api.call("GET", path)
    assert code == 200
    assert "api_key" not in shown
    assert [key["key_id"] for key in shown["keys"]] == [client["api_key"].split("_")[1]]
    assert (shown["lane"], shown["lane_open"], shown["usage"]["images"], shown["erasure"]) == ("standard", 0, 0, None)

    code, changed = await api.call("PATCH", path, json={"plan": "premium", "limits": {"images": None, "burst": 5}})
    assert code == 200, changed
    assert (changed["plan"], changed["lane"]) == ("premium", "premium")
    assert (changed["limits"]["images"], changed["limits"]["burst"]) == (5_000_000, 5)

    code, listed = await api.call("GET", "/auth/clients", params={"plan": "premium"})
    assert [item["uuid"] for item in listed["items"]] == [client["uuid"]]

    assert await status(api, client["api_key"]) == 200
    assert (await api.call("DELETE", path))[0] == 204
    assert await status(api, client["api_key"]) == 401
    assert (await api.call("DELETE", path))[0] == 204, "deactivating twice is no error"
    assert (await api.call("PATCH", path, json={"active": True}))[0] == 200
    assert await status(api, client["api_key"]) == 200
    assert await acts(api, client["uuid"]) == [
        "client.changed",
        "client.deactivated",
        "client.changed",
        "client.created",
    ]


async def test_lists_of_clients_go_on_behind_their_cursor(api: Api) -> None:
    uuids = [(await created(api, name=f"client {number}"))["uuid"] for number in range(5)]
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        _, page = await api.call("GET", "/auth/clients", params={"limit": 2, **cursor})
        found += [item["uuid"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == uuids


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/clients", {"name": "x", "plan": "gold"}),
        ("/auth/clients", {"name": "x", "plan": "free", "scopes": ["admin"]}),
        ("/auth/clients", {"name": "x", "plan": "free", "scopes": ["clients:manage"]}),
        ("/auth/clients", {"name": "x", "plan": "free", "limits": {"image": 1}}),
        ("/auth/clients", {"name": "x", "plan": "free", "pipeline": {"stages": []}}),
    ],
)
async def test_what_a_client_cannot_be_is_refused(api: Api, path: str, body: dict[str, Any]) -> None:
    code, answer = await api.call("POST", path, json=body)
    assert (code, answer["code"]) == (422, "validation-failed")


async def test_a_rotated_key_opens_until_its_grace_ends(api: Api) -> None:
    client = await created(api)
    path = f"/auth/clients/{client['id']}/rotate-key"
    code, rotated = await api.call("POST", path, json={"grace_seconds": 3600})
    assert code == 200, rotated
    assert await status(api, client["api_key"]) == 200
    assert await status(api, rotated["api_key"]) == 200
    code, again = await api.call("POST", path, json={})
    assert code == 200, again
    assert await status(api, client["api_key"]) == 401, "a rotation without grace ends every key of before"
    assert await status(api, rotated["api_key"]) == 401
    assert await status(api, again["api_key"]) == 200


async def test_keys_note_when_they_were_last_used_without_a_write_at_each_request(api: Api) -> None:
    client = await created(api)
    for _ in range(3):
        assert await status(api, client["api_key"]) == 200
    _, before = await api.call("GET", f"/auth/clients/{client['id']}")
    assert before["keys"][0]["last_used_at"] is None
    assert await api.services.auth.keys.write_uses() == 1
    _, after = await api.call("GET", f"/auth/clients/{client['id']}")
    assert after["keys"][0]["last_used_at"] is not None
    assert await api.services.auth.keys.write_uses() == 0


async def test_a_cached_key_is_forgotten_within_seconds_of_its_revocation(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_cache.MAX_AGE == 0.0
    monkeypatch.undo()
    # Five seconds are promised, on every replica: a replica's cache is this old at most.
    assert key_cache.MAX_AGE <= 5


def put_body(**more: Any) -> dict[str, Any]:
    return {"name": "atelier", "plan": "standard", "owner": "cluster/namespace/atelier", **more}


async def as_operator(api: Api, method: str, path: str, **options: Any) -> tuple[int, Any]:
    return await api.call(method, path, key=OPERATOR_KEY, **options)


async def test_the_operator_makes_its_client_and_repeating_it_changes_nothing(api: Api) -> None:
    uuid = str(uuid4())
    code, made = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    assert (code, made["uuid"], made["managed_by"], made["keys"]) == (201, uuid, "operator", [])
    code, same = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    assert (code, same) == (200, made)
    code, changed = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body(plan="premium", active=False))
    assert (code, changed["plan"], changed["active"], changed["lane"]) == (200, "premium", False, "premium")
    assert await acts(api, uuid) == ["client.replaced", "client.created"]


async def test_the_operator_makes_one_client_however_often_it_asks_at_once(api: Api) -> None:
    uuid = str(uuid4())
    answers = await asyncio.gather(
        *(as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body()) for _ in range(8))
    )
    assert sorted(code for code, _ in answers) == [200] * 7 + [201]
    assert len({answer["id"] for _, answer in answers}) == 1


async def test_another_owner_is_refused_until_the_client_is_transferred(api: Api) -> None:
    uuid = str(uuid4())
    await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    stranger = put_body(owner="cluster/another/atelier")
    code, refused = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=stranger)
    assert (code, refused["code"]) == (409, "client-owned")
    assert "namespace" not in str(refused["detail"]), "whose it is instead is nobody's business"
    code, _ = await api.call("PATCH", f"/auth/clients/{uuid}", json={"owner": stranger["owner"]})
    assert code == 200
    assert (await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=stranger))[0] == 200
    code, refused = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    assert (code, refused["code"]) == (409, "client-owned")
    assert "client.transferred" in await acts(api, uuid)


async def test_a_client_of_the_administrators_is_unknown_to_the_operator(api: Api) -> None:
    client = await created(api)
    path = f"/auth/clients/{client['uuid']}"
    unknown = await as_operator(api, "GET", f"/auth/clients/{uuid4()}")
    assert await as_operator(api, "GET", path) == unknown
    assert (await as_operator(api, "DELETE", path))[0] == 404
    assert (await as_operator(api, "PUT", f"{path}/keys/abcdefgh", json={"sha256": "0" * 64}))[0] == 404
    code, refused = await as_operator(api, "PUT", path, json=put_body())
    assert (code, refused["code"]) == (409, "client-owned"), "without a transfer nobody takes it over"


async def test_the_operator_can_grant_neither_admin_nor_its_own_scope(api: Api) -> None:
    for scope in ("admin", "clients:manage"):
        code, _ = await as_operator(api, "PUT", f"/auth/clients/{uuid4()}", json=put_body(scopes=[scope]))
        assert code == 422


async def test_a_key_is_registered_by_its_digest_and_opens(api: Api) -> None:
    uuid, key = str(uuid4()), keys.generate()
    await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    path, body = f"/auth/clients/{uuid}/keys/{key.key_id}", {"sha256": key.wire_digest.hex()}
    assert (await as_operator(api, "PUT", path, json=body))[0] == 201
    assert (await as_operator(api, "PUT", path, json=body))[0] == 200
    assert await status(api, key.reveal()) == 200

    soon = iso_utc(utc_now() - timedelta(seconds=1))
    code, state = await as_operator(api, "PUT", path, json={**body, "expires_at": soon})
    assert (code, state["expires_at"]) == (200, soon)
    assert await status(api, key.reveal()) == 401
    assert (await as_operator(api, "PUT", path, json=body))[0] == 200
    assert await status(api, key.reveal()) == 200, "without a time it opens again"

    assert (await as_operator(api, "DELETE", path))[0] == 204
    assert (await as_operator(api, "DELETE", path))[0] == 204
    assert await status(api, key.reveal()) == 401
    code, refused = await as_operator(api, "PUT", path, json=body)
    assert (code, refused["code"]) == (409, "conflict"), "a revoked key never comes back"
    assert (await as_operator(api, "DELETE", f"/auth/clients/{uuid}/keys/zzzzzzzz"))[0] == 404


async def test_an_id_of_another_client_or_with_another_digest_is_a_conflict(api: Api) -> None:
    one, other, key = str(uuid4()), str(uuid4()), keys.generate()
    for uuid in (one, other):
        await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    body = {"sha256": key.wire_digest.hex()}
    assert (await as_operator(api, "PUT", f"/auth/clients/{one}/keys/{key.key_id}", json=body))[0] == 201
    wrong = {"sha256": hashlib.sha256(b"another secret").hexdigest()}
    answers = [
        await as_operator(api, "PUT", f"/auth/clients/{one}/keys/{key.key_id}", json=wrong),
        await as_operator(api, "PUT", f"/auth/clients/{other}/keys/{key.key_id}", json=body),
        await as_operator(api, "PUT", f"/auth/clients/{other}/keys/{key.key_id}", json=wrong),
    ]
    assert {code for code, _ in answers} == {409}
    assert len({str(answer) for _, answer in answers}) == 1, "which of the two it was is not told"


async def test_a_registered_key_expires_without_its_digest_for_who_lost_its_secret(api: Api) -> None:
    uuid, other, key = str(uuid4()), str(uuid4()), keys.generate()
    for one in (uuid, other):
        await as_operator(api, "PUT", f"/auth/clients/{one}", json=put_body())
    path, digest = f"/auth/clients/{uuid}/keys/{key.key_id}", {"sha256": key.wire_digest.hex()}
    past = {"expires_at": iso_utc(utc_now() - timedelta(seconds=1))}
    assert (await as_operator(api, "PUT", path, json=past))[0] == 404, "there is nothing yet that could expire"
    assert (await as_operator(api, "PUT", path, json=digest))[0] == 201
    assert (await as_operator(api, "PUT", f"/auth/clients/{other}/keys/{key.key_id}", json=past))[0] == 404
    assert await status(api, key.reveal()) == 200
    assert (await as_operator(api, "PUT", path, json=past))[0] == 200
    assert await status(api, key.reveal()) == 401
    assert (await as_operator(api, "PUT", path, json={}))[0] == 422


async def test_writes_that_name_an_owner_touch_no_other_owners_client(api: Api) -> None:
    uuid, key = str(uuid4()), keys.generate()
    owner = put_body()["owner"]
    await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    path, digest = f"/auth/clients/{uuid}", {"sha256": key.wire_digest.hex()}
    stranger = {"owner": "cluster/another/atelier"}
    writes = (("PUT", f"{path}/keys/{key.key_id}", digest), ("DELETE", f"{path}/keys/{key.key_id}", None))
    for method, target, body in (*writes, ("DELETE", path, None)):
        code, refused = await as_operator(api, method, target, json=body, params=stranger)
        assert (code, refused["code"]) == (409, "client-owned"), (method, target)
    code, refused = await as_operator(api, "DELETE", path, params={**stranger, "erase": "true"})
    assert (code, refused["code"]) == (409, "client-owned")
    assert (await as_operator(api, "PUT", writes[0][1], json=digest, params={"owner": owner}))[0] == 201
    assert (await as_operator(api, "DELETE", writes[0][1], params={"owner": owner}))[0] == 204
    assert (await as_operator(api, "DELETE", path, params={"owner": owner}))[0] == 204
    assert (await as_operator(api, "DELETE", path, params={"owner": "x" * 501}))[0] == 422


async def test_each_platform_key_opens_its_own_routes_alone(api: Api) -> None:
    uuid = str(uuid4())
    code, answer = await api.call("PUT", f"/auth/clients/{uuid}", key=ADMIN_KEY, json=put_body())
    assert (code, answer["code"]) == (403, "missing-scope")
    for method, path in (("GET", "/auth/clients"), ("POST", "/auth/clients"), ("GET", "/admin/audit")):
        code, answer = await as_operator(api, method, path)
        assert (code, answer["code"]) == (403, "missing-scope"), path
    for key in (ADMIN_KEY, OPERATOR_KEY):
        code, answer = await api.call("GET", "/images", key=key)
        assert (code, answer["code"]) == (403, "not-a-tenant")


async def token(tenant: Tenant, **body: Any) -> dict[str, Any]:
    code, answer = await tenant.call("POST", "/auth/token", json=body)
    assert code == 201, answer
    return answer


async def by_token(api: Api, text: str, method: str = "GET", path: str = "/auth/me", **options: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {text}"}
    async with api.http.request(method, path, headers=headers, **options) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_token_may_what_it_was_made_for_and_no_more(api: Api, tenant: Tenant) -> None:
    code, image = await tenant.upload(encoded())
    assert code == 201
    narrow = await token(tenant, scopes=["images:read"], expires_in=60)
    assert (narrow["token_type"], narrow["expires_in"], narrow["scopes"]) == ("Bearer", 60, ["images:read"])
    code, me = await by_token(api, narrow["token"])
    assert (code, me["scopes"]) == (200, ["images:read"])
    code, answer = await by_token(api, narrow["token"], "DELETE", f"/images/{image['id']}")
    assert (code, answer["code"]) == (403, "missing-scope")
    code, answer = await by_token(api, narrow["token"], "POST", "/auth/token", json={})
    assert (code, answer["code"]) == (403, "key-needed")
    assert set((await token(tenant))["scopes"]) == {str(scope) for scope in tenant.client.scopes}


async def test_a_token_is_never_wider_than_its_key(api: Api) -> None:
    reader = await api.new_client(scopes=["images:read"])
    code, answer = await reader.call("POST", "/auth/token", json={"scopes": ["images:read", "images:write"]})
    assert (code, answer["code"]) == (403, "missing-scope")
    wide = await token(reader)
    assert (await api.call("PATCH", f"/auth/clients/{reader.client.id}", json={"scopes": ["ai:use"]}))[0] == 200
    code, me = await by_token(api, wide["token"])
    assert (code, me["scopes"]) == (200, []), "what the key lost, its tokens lost"


async def test_a_token_dies_with_its_time_its_key_and_its_client(api: Api, tenant: Tenant) -> None:
    text = (await token(tenant, expires_in=1))["token"]
    lasting = (await token(tenant))["token"]
    for wrong in ("", "x", text[:-2] + ("AA" if text[-2:] != "AA" else "BB"), text.rsplit(".", 1)[0] + "."):
        assert (await by_token(api, wrong))[0] == 401

    async def over() -> bool:
        return (await by_token(api, text))[0] == 401

    await until(over, what="the token to expire", timeout=5)
    assert (await by_token(api, lasting))[0] == 200
    await api.call("POST", f"/auth/clients/{tenant.client.id}/rotate-key", json={})
    assert (await by_token(api, lasting))[0] == 401
