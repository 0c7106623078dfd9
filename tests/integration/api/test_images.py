"""Reading and changing images over HTTP."""

from typing import Any

import pytest

from imago.api.auth.permissions import permission_of
from imago.core.clients import keys
from tests.integration.api.conftest import ADMIN_KEY, Api, Tenant
from tests.support.images import encoded, picture


async def test_lists_are_paged_with_the_quota_beside_them(tenant: Tenant) -> None:
    made = [(await tenant.upload(encoded("png", picture(seed=index))))[1]["id"] for index in range(5)]
    seen: list[int] = []
    path = "/images?limit=2"
    while path:
        _, page = await tenant.call("GET", path)
        seen += [item["id"] for item in page["items"]]
        assert page["quota"]["images_used"] == 5
        path = f"/images?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert seen == sorted(made, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=zzz",
        "cursor=e30",
        "status=odd",
        "has_gps=maybe",
        "sha256=abc",
        "nonsense=1",
    ]
    + ["taken_from=yesterday", "created_from=2024-01-01T00:00:00", "q=", "q=%00", "tag="],
)
async def test_a_wrong_query_is_told_by_its_field(tenant: Tenant, query: str) -> None:
    status, problem = await tenant.call("GET", f"/images?{query}")
    assert (status, problem["code"]) == (422, "validation-failed")
    assert query.split("=")[0] in problem["errors"]


async def test_an_image_is_found_by_its_id_and_its_uuid(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    assert await tenant.call("GET", f"/images/{body['id']}") == await tenant.call("GET", f"/images/{body['uuid']}")


async def test_status_has_every_stage(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    _, status = await tenant.call("GET", f"/images/{body['id']}/status")
    assert set(status["stages"]) == {"thumbnail", "exif", "ocr", "vision"}
    stage = {"status", "run", "attempts", "error_code", "error_text", "started_at", "done_at"}
    assert set(status["stages"]["ocr"]) == stage
    for part in ("exif", "ocr", "ai"):
        _, answer = await tenant.call("GET", f"/images/{body['id']}/{part}")
        assert answer == {"stage_status": "pending", part: None}


async def test_another_clients_image_answers_as_one_that_isnt(api: Api, tenant: Tenant) -> None:
    stranger = await api.new_client("stranger")
    _, body = await tenant.upload(encoded())
    routes = [("GET", suffix) for suffix in ("", "/status", "/exif", "/ocr", "/ai", "/download-url", "/thumbnail-url")]
    routes += [("POST", "/reprocess"), ("PATCH", ""), ("DELETE", "")]
    for method, suffix in routes:
        options: dict[str, Any] = {"PATCH": {"json": {"tags": None}}, "POST": {"json": {}}}.get(method, {})
        answers = set()
        for ref in (body["id"], body["uuid"], 999_999, "0b7d9c2e-0000-4000-8000-000000000000", "nonsense"):
            headers = {"X-API-Key": stranger.key}
            async with api.http.request(method, f"/images/{ref}{suffix}", headers=headers, **options) as answer:
                answers.add((answer.status, await answer.read()))
        assert len(answers) == 1, (method, suffix, answers)
        assert next(iter(answers))[0] == 404
    assert (await tenant.call("GET", f"/images/{body['id']}"))[0] == 200


async def test_a_signed_url_opens_the_original_inert(api: Api, tenant: Tenant) -> None:
    data = encoded("gif") + b"<script>alert(1)</script>"
    _, body = await tenant.upload(data, 'a; x="y.html')
    _, link = await tenant.call("GET", f"/images/{body['id']}/download-url")
    path = "/" + link["url"].split("/", 3)[3]
    async with api.http.get(path) as answer:
        assert (answer.status, await answer.read()) == (200, data)
        assert answer.headers["Content-Type"] == "image/gif"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        etag = answer.headers["ETag"]
    async with api.http.get(path, headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304
    async with api.http.get(path, headers={"Range": "bytes=2-5"}) as answer:
        assert (answer.status, await answer.read()) == (206, data[2:6])
    async with api.http.get(path, headers={"Range": "bytes=99999999-"}) as answer:
        assert answer.status == 416
    async with api.http.head(path) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(data)))
    tampered = path[:-3] + ("aaa" if path[-3:] != "aaa" else "bbb")
    for wrong in (tampered, "/files/signed/x", "/files/signed/x.y"):
        async with api.http.get(wrong) as answer:
            assert answer.status == 404


async def test_a_thumbnail_that_isnt_made_yet_says_when_to_come_back(api: Api, tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    headers = {"X-API-Key": tenant.key}
    async with api.http.get(f"/images/{body['id']}/thumbnail-url", headers=headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (409, "not-ready")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_a_persons_words_are_set_and_cleared(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    path = f"/images/{body['id']}"
    _, detail = await tenant.call("PATCH", path, json={"description": "Chez nous", "tags": ["Été", "été", "mer"]})
    assert detail["user"] == {"description": "Chez nous", "tags": ["été", "mer"]}
    _, tags = await tenant.call("GET", "/images/tags/all")
    assert tags == {"items": [{"tag": "mer", "count": 1}, {"tag": "été", "count": 1}], "next_cursor": None}
    _, detail = await tenant.call("PATCH", path, json={"description": None})
    assert detail["user"] == {"description": None, "tags": ["été", "mer"]}
    for wrong in ({"tags": "x"}, {"tags": [""]}, {"description": 3}, {"other": 1}, {"description": "a\0b"}, [], None):
        status, problem = await tenant.call("PATCH", path, json=wrong)
        assert (status, problem["code"]) == (422, "validation-failed"), wrong


async def test_stages_run_again_when_asked(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    status, answer = await tenant.call("POST", f"/images/{body['id']}/reprocess", json={"stages": ["ocr"]})
    assert (status, answer["stages"]["ocr"]["run"], answer["stages"]["exif"]["run"]) == (202, 2, 1)
    status, answer = await tenant.call("POST", f"/images/{body['id']}/reprocess", json={})
    assert {name: stage["run"] for name, stage in answer["stages"].items()} == {
        "thumbnail": 2,
        "exif": 2,
        "ocr": 3,
        "vision": 2,
    }
    for wrong in ({"stages": []}, {"stages": ["nap"]}, {"stages": "ocr"}):
        assert (await tenant.call("POST", f"/images/{body['id']}/reprocess", json=wrong))[0] == 422


async def test_a_deleted_image_is_gone(api: Api, tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    assert await tenant.call("DELETE", f"/images/{body['id']}") == (204, None)
    assert (await tenant.call("GET", f"/images/{body['id']}"))[0] == 404
    _, me = await tenant.call("GET", "/auth/me")
    assert me["quota"]["images_used"] == 0


async def test_keys_that_open_nothing_answer_alike(api: Api, tenant: Tenant) -> None:
    unknown = keys.generate().reveal()
    typo = tenant.key[:-1] + ("0" if tenant.key[-1] != "0" else "1")
    for key in ("", "x", unknown, typo, tenant.key.swapcase(), "imago_" * 40):
        async with api.http.get("/images", headers={"X-API-Key": key} if key else {}) as answer:
            body = await answer.json(content_type=None)
            assert (answer.status, body["code"]) == (401, "unauthenticated"), key
            assert answer.content_type == "application/problem+json"
            assert "WWW-Authenticate" in answer.headers


async def test_a_key_without_the_scope_is_refused(api: Api) -> None:
    reader = await api.new_client("reader", scopes=["images:read"])
    assert (await reader.call("GET", "/images"))[0] == 200
    status, problem = await reader.upload(encoded())
    assert (status, problem["code"], problem["scope"]) == (403, "missing-scope", "images:write")
    assert (await reader.call("DELETE", "/images/1"))[0] == 403
    assert (await reader.call("POST", "/auth/clients", json={"name": "x", "plan": "free"}))[0] == 403


async def test_the_administrator_makes_clients_but_has_no_images(api: Api) -> None:
    headers = {"X-API-Key": ADMIN_KEY}
    body = {"name": "Atelier", "plan": "premium", "limits": {"images": 5}, "pipeline": {"stages": ["ocr"]}}
    async with api.http.post("/auth/clients", headers=headers, json=body) as answer:
        assert answer.status == 201
        made = await answer.json()
    assert made["limits"]["images"] == 5
    assert made["limits"]["burst"] == 1000
    tenant = Tenant(api, None, made["api_key"])  # type: ignore[arg-type]
    status, me = await tenant.call("GET", "/auth/me")
    assert (status, me["plan"], me["client"]["uuid"]) == (200, "premium", made["uuid"])
    _, uploaded = await tenant.upload(encoded())
    _, state = await tenant.call("GET", f"/images/{uploaded['id']}/status")
    assert {name: stage["status"] for name, stage in state["stages"].items()} == {
        "thumbnail": "pending",
        "exif": "skipped",
        "ocr": "pending",
        "vision": "skipped",
    }
    async with api.http.get("/images", headers=headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (403, "not-a-tenant")
    for wrong in ({}, {"name": "", "plan": "free"}, {"name": "x", "plan": "gold"}, {**body, "scopes": ["admin"]}):
        async with api.http.post("/auth/clients", headers=headers, json=wrong) as answer:
            assert answer.status == 422, wrong


async def test_unknown_paths_and_methods_are_problems_too(api: Api) -> None:
    async with api.http.get("/nothing/here") as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (404, "not-found")
    async with api.http.put("/images") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]


async def test_every_route_says_who_may_call_it(api: Api) -> None:
    for route in api.http.server.app.router.routes():  # type: ignore[union-attr]
        assert permission_of(route.handler) is not None, route


async def test_health_and_metrics_answer(api: Api, tenant: Tenant) -> None:
    await tenant.upload(encoded())
    for path in ("/", "/health", "/health/ready", "/health/detailed", "/docs", "/openapi.json"):
        async with api.http.get(path) as answer:
            assert answer.status == 200, path
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with api.http.get("/metrics") as answer:
        text = await answer.text()
    assert 'imago_http_requests_total{method="POST",route="/images/upload",status="201"}' in text
    assert str(tenant.client.uuid) not in text


async def test_an_answer_carries_the_requests_id(api: Api) -> None:
    async with api.http.get("/health", headers={"X-Request-ID": "abc-123"}) as answer:
        assert answer.headers["X-Request-ID"] == "abc-123"
    async with api.http.get("/health", headers={"X-Request-ID": "a b"}) as answer:
        assert answer.headers["X-Request-ID"] != "a b"
