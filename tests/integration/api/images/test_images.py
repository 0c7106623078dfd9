"""Images over HTTP: lists, details, changes, and signed URLs."""

import re
from typing import Any

import pytest
from marshmallow import fields

from imago.api.auth.permissions import permission_of
from imago.core.clients import keys
from tests.integration.api.conftest import ADMIN_KEY, OPERATOR_KEY, Api, Tenant
from tests.support.images import encoded, picture


async def test_lists_are_paged_and_contain_the_quota(tenant: Tenant) -> None:
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
async def test_an_invalid_query_parameter_is_reported_by_name(tenant: Tenant, query: str) -> None:
    status, problem = await tenant.call("GET", f"/images?{query}")
    assert (status, problem["code"]) == (422, "validation-failed")
    assert query.split("=")[0] in problem["errors"]


async def test_a_repeated_tag_finds_the_images_that_have_all_of_them(tenant: Tenant) -> None:
    ids = [(await tenant.upload(encoded()))[1]["id"] for _ in range(3)]
    for image, tags in zip(ids, (["x1", "x2"], ["x1"], ["x2", "x3"]), strict=True):
        await tenant.call("PATCH", f"/images/{image}", json={"tags": tags})
    for query, found in (
        ("tag=x1&tag=x2", ids[:1]),
        ("tag=X2&tag=x1&tag=x2", ids[:1]),
        ("tag=x2", [ids[2], ids[0]]),
        ("tag=x1&tag=x3", []),
        ("tag=x1&tag=x2&q=photo", ids[:1]),
    ):
        _, page = await tenant.call("GET", f"/images?{query}")
        assert [item["id"] for item in page["items"]] == found, query
    assert (await tenant.call("GET", "/images?" + "&".join(["tag=x"] * 9)))[0] == 422


async def test_any_other_repeated_query_parameter_is_refused(api: Api, tenant: Tenant) -> None:
    refused = 0
    for route in api.http.server.app.router.routes():  # type: ignore[union-attr]
        declared = getattr(route.handler, "__apispec__", {"schemas": []})
        schemas = [each["schema"] for each in declared["schemas"] if each["location"] == "querystring"]
        for name, field in (pair for schema in schemas for pair in schema.fields.items()):
            if isinstance(field, fields.List):
                continue
            path = re.sub(r"{.*?}", "1", route.resource.canonical)  # type: ignore[union-attr]
            key = tenant.key if path.startswith("/images") else ADMIN_KEY
            _, problem = await api.call(route.method, f"{path}?{name}=1&{name}=2", key=key)
            if problem["code"] == "missing-scope":
                _, problem = await api.call(route.method, f"{path}?{name}=1&{name}=2", key=OPERATOR_KEY)
            assert problem.get("errors") == {name: ["Must not be repeated."]}, (route, problem)
            refused += 1
    assert refused > 25


async def test_an_image_is_found_by_id_and_by_uuid(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    assert await tenant.call("GET", f"/images/{body['id']}") == await tenant.call("GET", f"/images/{body['uuid']}")


async def test_status_has_every_stage(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    _, status = await tenant.call("GET", f"/images/{body['id']}/status")
    assert set(status["stages"]) == {"thumbnail", "exif", "ocr", "vision"}
    stage = {"status", "run", "attempts", "error_code", "error_text", "started_at", "done_at"}
    assert set(status["stages"]["ocr"]) == stage
    for part in ("exif", "ocr", "ai"):
        _, response = await tenant.call("GET", f"/images/{body['id']}/{part}")
        assert response == {"stage_status": "pending", part: None}


async def test_another_clients_image_is_indistinguishable_from_a_missing_one(api: Api, tenant: Tenant) -> None:
    other = await api.new_client("other")
    _, body = await tenant.upload(encoded())
    routes = [("GET", suffix) for suffix in ("", "/status", "/exif", "/ocr", "/ai", "/download-url", "/thumbnail-url")]
    routes += [("POST", "/reprocess"), ("PATCH", ""), ("DELETE", "")]
    for method, suffix in routes:
        options: dict[str, Any] = {"PATCH": {"json": {"tags": None}}, "POST": {"json": {}}}.get(method, {})
        responses = set()
        for ref in (body["id"], body["uuid"], 999_999, "0b7d9c2e-0000-4000-8000-000000000000", "nonsense"):
            headers = {"X-API-Key": other.key}
            async with api.http.request(method, f"/images/{ref}{suffix}", headers=headers, **options) as response:
                responses.add((response.status, await response.read()))
        assert len(responses) == 1, (method, suffix, responses)
        assert next(iter(responses))[0] == 404
    assert (await tenant.call("GET", f"/images/{body['id']}"))[0] == 200


async def test_a_signed_url_serves_the_original_without_active_content(api: Api, tenant: Tenant) -> None:
    data = encoded("gif") + b"<script>alert(1)</script>"
    _, body = await tenant.upload(data, 'a; x="y.html')
    _, link = await tenant.call("GET", f"/images/{body['id']}/download-url")
    path = "/" + link["url"].split("/", 3)[3]
    async with api.http.get(path) as response:
        assert (response.status, await response.read()) == (200, data)
        assert response.headers["Content-Type"] == "image/gif"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response.headers["Content-Security-Policy"]
        assert response.headers["Content-Disposition"].startswith("attachment;")
        etag = response.headers["ETag"]
    async with api.http.get(path, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    async with api.http.get(path, headers={"Range": "bytes=2-5"}) as response:
        assert (response.status, await response.read()) == (206, data[2:6])
    async with api.http.get(path, headers={"Range": "bytes=99999999-"}) as response:
        assert response.status == 416
    async with api.http.head(path) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(data)))
    tampered = path[:-3] + ("aaa" if path[-3:] != "aaa" else "bbb")
    for wrong in (tampered, "/files/signed/x", "/files/signed/x.y"):
        async with api.http.get(wrong) as response:
            assert response.status == 404


async def test_a_missing_thumbnail_is_reported_with_retry_after(api: Api, tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    headers = {"X-API-Key": tenant.key}
    async with api.http.get(f"/images/{body['id']}/thumbnail-url", headers=headers) as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (409, "not-ready")
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_users_description_and_tags_are_set_and_cleared(tenant: Tenant) -> None:
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


async def test_reprocessing_starts_new_runs(tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    status, response = await tenant.call("POST", f"/images/{body['id']}/reprocess", json={"stages": ["ocr"]})
    assert (status, response["stages"]["ocr"]["run"], response["stages"]["exif"]["run"]) == (202, 2, 1)
    status, response = await tenant.call("POST", f"/images/{body['id']}/reprocess", json={})
    assert {name: stage["run"] for name, stage in response["stages"].items()} == {
        "thumbnail": 2,
        "exif": 2,
        "ocr": 3,
        "vision": 2,
    }
    for wrong in ({"stages": []}, {"stages": ["nap"]}, {"stages": "ocr"}):
        assert (await tenant.call("POST", f"/images/{body['id']}/reprocess", json=wrong))[0] == 422


async def test_a_deleted_image_is_not_found_and_releases_its_quota(api: Api, tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    assert await tenant.call("DELETE", f"/images/{body['id']}") == (204, None)
    assert (await tenant.call("GET", f"/images/{body['id']}"))[0] == 404
    _, me = await tenant.call("GET", "/auth/me")
    assert me["quota"]["images_used"] == 0


async def test_all_invalid_keys_get_the_same_response(api: Api, tenant: Tenant) -> None:
    unknown = keys.generate().reveal()
    typo = tenant.key[:-1] + ("0" if tenant.key[-1] != "0" else "1")
    for key in ("", "x", unknown, typo, tenant.key.swapcase(), "imago_" * 40):
        async with api.http.get("/images", headers={"X-API-Key": key} if key else {}) as response:
            body = await response.json(content_type=None)
            assert (response.status, body["code"]) == (401, "unauthenticated"), key
            assert response.content_type == "application/problem+json"
            assert "WWW-Authenticate" in response.headers


async def test_a_key_without_the_scope_is_rejected(api: Api) -> None:
    reader = await api.new_client("reader", scopes=["images:read"])
    assert (await reader.call("GET", "/images"))[0] == 200
    status, problem = await reader.upload(encoded())
    assert (status, problem["code"], problem["scope"]) == (403, "missing-scope", "images:write")
    assert (await reader.call("DELETE", "/images/1"))[0] == 403
    assert (await reader.call("POST", "/auth/clients", json={"name": "x", "plan": "free"}))[0] == 403


async def test_the_administrator_creates_clients_but_has_no_images(api: Api) -> None:
    headers = {"X-API-Key": ADMIN_KEY}
    body = {"name": "Atelier", "plan": "premium", "limits": {"images": 5}, "pipeline": {"stages": ["ocr"]}}
    async with api.http.post("/auth/clients", headers=headers, json=body) as response:
        assert response.status == 201
        made = await response.json()
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
    async with api.http.get("/images", headers=headers) as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (403, "not-a-tenant")
    for wrong in ({}, {"name": "", "plan": "free"}, {"name": "x", "plan": "gold"}, {**body, "scopes": ["admin"]}):
        async with api.http.post("/auth/clients", headers=headers, json=wrong) as response:
            assert response.status == 422, wrong


async def test_unknown_paths_and_methods_get_problem_responses(api: Api) -> None:
    async with api.http.get("/nothing/here") as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (404, "not-found")
    async with api.http.put("/images") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]


async def test_every_route_declares_its_access(api: Api) -> None:
    for route in api.http.server.app.router.routes():  # type: ignore[union-attr]
        assert permission_of(route.handler) is not None, route


async def test_health_documentation_and_metrics_respond(api: Api, tenant: Tenant) -> None:
    await tenant.upload(encoded())
    for path in ("/", "/health", "/health/ready", "/health/detailed", "/docs", "/openapi.json"):
        async with api.http.get(path) as response:
            assert response.status == 200, path
            assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with api.http.get("/metrics") as response:
        text = await response.text()
    assert 'imago_http_requests_total{method="POST",route="/images/upload",status="201"}' in text
    assert str(tenant.client.uuid) not in text


async def test_a_response_has_the_id_of_its_request(api: Api) -> None:
    async with api.http.get("/health", headers={"X-Request-ID": "abc-123"}) as response:
        assert response.headers["X-Request-ID"] == "abc-123"
    async with api.http.get("/health", headers={"X-Request-ID": "a b"}) as response:
        assert response.headers["X-Request-ID"] != "a b"


async def test_a_search_says_what_matched_and_pages_by_its_own_cursors(tenant: Tenant) -> None:
    ids = [(await tenant.upload(encoded(), name=name))[1]["id"] for name in ("cat.jpg", "catamaran.jpg", "cats.jpg")]
    status, first = await tenant.call("GET", "/images?q=a+cat&limit=2")
    assert status == 200
    assert [(item["id"], item["match"]) for item in first["items"]] == [(ids[2], "text"), (ids[0], "text")]
    _, second = await tenant.call("GET", f"/images?q=a+cat&limit=2&cursor={first['next_cursor']}")
    assert [item["id"] for item in second["items"]] == [ids[1]]
    assert second["next_cursor"] is None
    _, newest = await tenant.call("GET", "/images?limit=2")
    assert "match" not in newest["items"][0]
    for query in (f"cursor={first['next_cursor']}", f"q=cat&cursor={newest['next_cursor']}"):
        status, problem = await tenant.call("GET", f"/images?{query}")
        assert (status, [*problem["errors"]]) == (422, ["cursor"])
