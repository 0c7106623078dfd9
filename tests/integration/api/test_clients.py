"""Clients and their keys: what administrators and the operator can do, and what neither can."""

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
    """A served API on each database."""
    served = await serve(db, tmp_path / "objects")
    yield served
    await served.http.close()


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    # One test covers the cache.
    monkeypatch.setattr(key_cache, "MAX_AGE", 0.0)


async def status(api: Api, key: str) -> int:
    return (await api.call("GET", "/auth/me", key=key))[0]


async def created(api: Api, **body: Any) -> dict[str, Any]:
    code, response = await api.call("POST", "/auth/clients", json={"name": "atelier", "plan": "free", **body})
    assert code == 201, response
    return response


async def actions(api: Api, client: str) -> list[str]:
    code, response = await api.call("GET", "/admin/audit", params={"client": client})
    assert code == 200, response
    return [record["action"] for record in response["items"]]


async def test_a_client_is_created_listed_changed_and_deactivated_with_an_audit_record_each(api: Api) -> None:
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
    assert (await api.call("DELETE", path))[0] == 204, "deactivation is idempotent"
    assert (await api.call("PATCH", path, json={"active": True}))[0] == 200
    assert await status(api, client["api_key"]) == 200
    assert await actions(api, client["uuid"]) == [
        "client.changed",
        "client.deactivated",
        "client.changed",
        "client.created",
    ]


async def test_the_cursor_continues_a_list_of_clients(api: Api) -> None:
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
async def test_invalid_clients_are_refused(api: Api, path: str, body: dict[str, Any]) -> None:
    code, response = await api.call("POST", path, json=body)
    assert (code, response["code"]) == (422, "validation-failed")


async def test_languages_of_the_pipeline_are_understood_as_people_write_them(api: Api) -> None:
    pipeline = {"ocr_languages": ["French", "eng+fra", "zh-TW"], "description_language": "Français (Canada)"}
    client = await created(api, pipeline=pipeline)
    _, detail = await api.call("GET", f"/auth/clients/{client['id']}")
    found = detail["pipeline"]["ocr_languages"], detail["pipeline"]["description_language"]
    assert found == (["fra", "eng", "chi_tra"], "fr")
    changes = {"pipeline": {"ocr_languages": ["Deutsch"]}}
    _, detail = await api.call("PATCH", f"/auth/clients/{client['id']}", json=changes)
    found = detail["pipeline"]["ocr_languages"], detail["pipeline"]["description_language"]
    assert found == (["deu"], "fr")


@pytest.mark.parametrize(
    ("pipeline", "field", "message"),
    [
        ({"description_language": "klingon"}, "description_language", "Unknown language; write for example fr"),
        ({"ocr_languages": ["fra", "klingon"]}, "ocr_languages", "Tesseract has no language `klingon`; write for"),
        ({"ocr_languages": ["fra+eng+deu+spa+ita+por+nld+pol+ces"]}, "ocr_languages", "At most 8 languages."),
    ],
)
async def test_an_unknown_language_of_the_pipeline_is_named(
    api: Api, pipeline: dict[str, Any], field: str, message: str
) -> None:
    code, problem = await api.call("POST", "/auth/clients", json={"name": "x", "plan": "free", "pipeline": pipeline})
    assert (code, problem["code"]) == (422, "validation-failed")
    assert problem["errors"]["pipeline"][field][0].startswith(message)


async def test_a_language_that_is_not_installed_is_refused_where_that_is_known(
    sqlite_db: Database, tmp_path: Path
) -> None:
    api = await serve(sqlite_db, tmp_path / "objects", ocr_installed=("eng", "fra"))
    body = {"name": "x", "plan": "free", "pipeline": {"ocr_languages": ["fr", "German"]}}
    code, problem = await api.call("POST", "/auth/clients", json=body)
    await api.http.close()
    assert (code, problem["code"]) == (422, "validation-failed")
    assert problem["errors"]["pipeline"]["ocr_languages"] == ["This server can't read deu; it has eng, fra."]


async def test_a_rotated_key_is_valid_until_its_grace_period_ends(api: Api) -> None:
    client = await created(api)
    path = f"/auth/clients/{client['id']}/rotate-key"
    code, rotated = await api.call("POST", path, json={"grace_seconds": 3600})
    assert code == 200, rotated
    assert await status(api, client["api_key"]) == 200
    assert await status(api, rotated["api_key"]) == 200
    code, again = await api.call("POST", path, json={})
    assert code == 200, again
    assert await status(api, client["api_key"]) == 401, "a rotation without a grace period revokes all previous keys"
    assert await status(api, rotated["api_key"]) == 401
    assert await status(api, again["api_key"]) == 200


async def test_the_last_use_of_keys_is_written_in_batches(api: Api) -> None:
    client = await created(api)
    for _ in range(3):
        assert await status(api, client["api_key"]) == 200
    _, before = await api.call("GET", f"/auth/clients/{client['id']}")
    assert before["keys"][0]["last_used_at"] is None
    assert await api.services.auth.keys.write_uses() == 1
    _, after = await api.call("GET", f"/auth/clients/{client['id']}")
    assert after["keys"][0]["last_used_at"] is not None
    assert await api.services.auth.keys.write_uses() == 0


async def test_a_cached_key_expires_within_seconds_of_its_revocation(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_cache.MAX_AGE == 0.0
    monkeypatch.undo()
    # The documented limit on every replica is five seconds.
    assert key_cache.MAX_AGE <= 5


def put_body(**more: Any) -> dict[str, Any]:
    return {"name": "atelier", "plan": "standard", "owner": "cluster/namespace/atelier", **more}


async def as_operator(api: Api, method: str, path: str, **options: Any) -> tuple[int, Any]:
    return await api.call(method, path, key=OPERATOR_KEY, **options)


async def test_the_operator_creates_a_client_idempotently(api: Api) -> None:
    uuid = str(uuid4())
    code, new = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    assert (code, new["uuid"], new["managed_by"], new["keys"]) == (201, uuid, "operator", [])
    code, same = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    assert (code, same) == (200, new)
    code, changed = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body(plan="premium", active=False))
    assert (code, changed["plan"], changed["active"], changed["lane"]) == (200, "premium", False, "premium")
    assert await actions(api, uuid) == ["client.replaced", "client.created"]


async def test_concurrent_requests_of_the_operator_create_one_client(api: Api) -> None:
    uuid = str(uuid4())
    responses = await asyncio.gather(
        *(as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body()) for _ in range(8))
    )
    assert sorted(code for code, _ in responses) == [200] * 7 + [201]
    assert len({response["id"] for _, response in responses}) == 1


async def test_another_owner_is_refused_until_the_client_is_transferred(api: Api) -> None:
    uuid = str(uuid4())
    await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    foreign = put_body(owner="cluster/another/atelier")
    code, refused = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=foreign)
    assert (code, refused["code"]) == (409, "client-owned")
    assert "namespace" not in str(refused["detail"]), "the error must not reveal the owner"
    code, _ = await api.call("PATCH", f"/auth/clients/{uuid}", json={"owner": foreign["owner"]})
    assert code == 200
    assert (await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=foreign))[0] == 200
    code, refused = await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    assert (code, refused["code"]) == (409, "client-owned")
    assert "client.transferred" in await actions(api, uuid)


@pytest.mark.parametrize(
    "owner", ["", "someone", "a/b", "a/b/c/d", "/b/c", "a//c", "a/b/", "a/b c/d", "a/b/Name", "a/b/c\n", "a/b/-c"]
)
async def test_a_transfer_to_what_cannot_be_an_owner_is_refused(api: Api, owner: str) -> None:
    client = await created(api)
    code, refused = await api.call("PATCH", f"/auth/clients/{client['uuid']}", json={"owner": owner})
    assert (code, "owner" in refused["errors"]) == (422, True)


async def test_a_transfer_is_undone_by_a_release(api: Api) -> None:
    client = await created(api)
    path, owner = f"/auth/clients/{client['uuid']}", "cluster/namespace/atelier"
    _, transferred = await api.call("PATCH", path, json={"owner": owner})
    assert (transferred["owner"], transferred["managed_by"]) == (owner, "operator")
    code, released = await api.call("PATCH", path, json={"owner": None})
    assert (code, released["owner"], released["managed_by"]) == (200, None, None)
    assert (await as_operator(api, "GET", path))[0] == 404


async def test_the_operator_does_not_see_clients_of_administrators(api: Api) -> None:
    client = await created(api)
    path = f"/auth/clients/{client['uuid']}"
    unknown = await as_operator(api, "GET", f"/auth/clients/{uuid4()}")
    assert await as_operator(api, "GET", path) == unknown
    assert (await as_operator(api, "DELETE", path))[0] == 404
    assert (await as_operator(api, "PUT", f"{path}/keys/abcdefgh", json={"sha256": "0" * 64}))[0] == 404
    code, refused = await as_operator(api, "PUT", path, json=put_body())
    assert (code, refused["code"]) == (409, "client-owned"), "only a transfer changes the owner"


async def test_the_operator_can_grant_neither_admin_nor_its_own_scope(api: Api) -> None:
    for scope in ("admin", "clients:manage"):
        code, _ = await as_operator(api, "PUT", f"/auth/clients/{uuid4()}", json=put_body(scopes=[scope]))
        assert code == 422


async def test_a_key_is_registered_by_its_digest_and_accepted(api: Api) -> None:
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
    assert await status(api, key.reveal()) == 200, "without an expiry it is valid again"

    assert (await as_operator(api, "DELETE", path))[0] == 204
    assert (await as_operator(api, "DELETE", path))[0] == 204
    assert await status(api, key.reveal()) == 401
    code, refused = await as_operator(api, "PUT", path, json=body)
    assert (code, refused["code"]) == (409, "conflict"), "a revoked key stays revoked"
    assert (await as_operator(api, "DELETE", f"/auth/clients/{uuid}/keys/zzzzzzzz"))[0] == 404


async def test_a_key_id_with_another_client_or_digest_is_a_conflict(api: Api) -> None:
    one, other, key = str(uuid4()), str(uuid4()), keys.generate()
    for uuid in (one, other):
        await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    body = {"sha256": key.wire_digest.hex()}
    assert (await as_operator(api, "PUT", f"/auth/clients/{one}/keys/{key.key_id}", json=body))[0] == 201
    wrong = {"sha256": hashlib.sha256(b"another secret").hexdigest()}
    responses = [
        await as_operator(api, "PUT", f"/auth/clients/{one}/keys/{key.key_id}", json=wrong),
        await as_operator(api, "PUT", f"/auth/clients/{other}/keys/{key.key_id}", json=body),
        await as_operator(api, "PUT", f"/auth/clients/{other}/keys/{key.key_id}", json=wrong),
    ]
    assert {code for code, _ in responses} == {409}
    assert len({str(response) for _, response in responses}) == 1, "the error must not reveal which one differs"


async def test_a_registered_key_can_be_expired_without_its_digest(api: Api) -> None:
    uuid, other, key = str(uuid4()), str(uuid4()), keys.generate()
    for one in (uuid, other):
        await as_operator(api, "PUT", f"/auth/clients/{one}", json=put_body())
    path, digest = f"/auth/clients/{uuid}/keys/{key.key_id}", {"sha256": key.wire_digest.hex()}
    past = {"expires_at": iso_utc(utc_now() - timedelta(seconds=1))}
    assert (await as_operator(api, "PUT", path, json=past))[0] == 404, "the key does not exist yet"
    assert (await as_operator(api, "PUT", path, json=digest))[0] == 201
    assert (await as_operator(api, "PUT", f"/auth/clients/{other}/keys/{key.key_id}", json=past))[0] == 404
    assert await status(api, key.reveal()) == 200
    assert (await as_operator(api, "PUT", path, json=past))[0] == 200
    assert await status(api, key.reveal()) == 401
    assert (await as_operator(api, "PUT", path, json={}))[0] == 422


async def test_writes_with_an_owner_do_not_change_clients_of_other_owners(api: Api) -> None:
    uuid, key = str(uuid4()), keys.generate()
    owner = put_body()["owner"]
    await as_operator(api, "PUT", f"/auth/clients/{uuid}", json=put_body())
    path, digest = f"/auth/clients/{uuid}", {"sha256": key.wire_digest.hex()}
    foreign = {"owner": "cluster/another/atelier"}
    writes = (("PUT", f"{path}/keys/{key.key_id}", digest), ("DELETE", f"{path}/keys/{key.key_id}", None))
    for method, target, body in (*writes, ("DELETE", path, None)):
        code, refused = await as_operator(api, method, target, json=body, params=foreign)
        assert (code, refused["code"]) == (409, "client-owned"), (method, target)
    code, refused = await as_operator(api, "DELETE", path, params={**foreign, "erase": "true"})
    assert (code, refused["code"]) == (409, "client-owned")
    assert (await as_operator(api, "PUT", writes[0][1], json=digest, params={"owner": owner}))[0] == 201
    assert (await as_operator(api, "DELETE", writes[0][1], params={"owner": owner}))[0] == 204
    assert (await as_operator(api, "DELETE", path, params={"owner": owner}))[0] == 204
    assert (await as_operator(api, "DELETE", path, params={"owner": "x" * 501}))[0] == 422


async def test_each_platform_key_is_accepted_only_on_its_own_routes(api: Api) -> None:
    uuid = str(uuid4())
    code, response = await api.call("PUT", f"/auth/clients/{uuid}", key=ADMIN_KEY, json=put_body())
    assert (code, response["code"]) == (403, "missing-scope")
    for method, path in (("GET", "/auth/clients"), ("POST", "/auth/clients"), ("GET", "/admin/audit")):
        code, response = await as_operator(api, method, path)
        assert (code, response["code"]) == (403, "missing-scope"), path
    for key in (ADMIN_KEY, OPERATOR_KEY):
        code, response = await api.call("GET", "/images", key=key)
        assert (code, response["code"]) == (403, "not-a-tenant")


async def token(tenant: Tenant, **body: Any) -> dict[str, Any]:
    code, response = await tenant.call("POST", "/auth/token", json=body)
    assert code == 201, response
    return response


async def by_token(api: Api, text: str, method: str = "GET", path: str = "/auth/me", **options: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {text}"}
    async with api.http.request(method, path, headers=headers, **options) as response:
        return response.status, await response.json(content_type=None)


async def test_a_token_has_only_the_scopes_that_it_was_issued_with(api: Api, tenant: Tenant) -> None:
    code, image = await tenant.upload(encoded())
    assert code == 201
    narrow = await token(tenant, scopes=["images:read"], expires_in=60)
    assert (narrow["token_type"], narrow["expires_in"], narrow["scopes"]) == ("Bearer", 60, ["images:read"])
    code, me = await by_token(api, narrow["token"])
    assert (code, me["scopes"]) == (200, ["images:read"])
    code, response = await by_token(api, narrow["token"], "DELETE", f"/images/{image['id']}")
    assert (code, response["code"]) == (403, "missing-scope")
    code, response = await by_token(api, narrow["token"], "POST", "/auth/token", json={})
    assert (code, response["code"]) == (403, "key-needed")
    assert set((await token(tenant))["scopes"]) == {str(scope) for scope in tenant.client.scopes}


async def test_a_token_never_has_more_scopes_than_its_key(api: Api) -> None:
    reader = await api.new_client(scopes=["images:read"])
    code, response = await reader.call("POST", "/auth/token", json={"scopes": ["images:read", "images:write"]})
    assert (code, response["code"]) == (403, "missing-scope")
    wide = await token(reader)
    assert (await api.call("PATCH", f"/auth/clients/{reader.client.id}", json={"scopes": ["ai:use"]}))[0] == 200
    code, me = await by_token(api, wide["token"])
    assert (code, me["scopes"]) == (200, []), "a token loses the scopes that its key loses"


async def test_a_token_is_invalid_after_its_expiry_or_the_revocation_of_its_key(api: Api, tenant: Tenant) -> None:
    text = (await token(tenant, expires_in=1))["token"]
    lasting = (await token(tenant))["token"]
    for wrong in ("", "x", text[:-2] + ("AA" if text[-2:] != "AA" else "BB"), text.rsplit(".", 1)[0] + "."):
        assert (await by_token(api, wrong))[0] == 401

    async def expired() -> bool:
        return (await by_token(api, text))[0] == 401

    await until(expired, what="the token to expire", timeout=5)
    assert (await by_token(api, lasting))[0] == 200
    await api.call("POST", f"/auth/clients/{tenant.client.id}/rotate-key", json={})
    assert (await by_token(api, lasting))[0] == 401
