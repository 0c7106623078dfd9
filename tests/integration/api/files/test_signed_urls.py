"""Signed URLs: ranges, caching, an end with their image, and many concurrently."""

from datetime import UTC, datetime, timedelta

import pytest

from imago.api.images.urls import url_expiry
from tests.integration.api.conftest import Api, Tenant
from tests.support.images import encoded


async def path_of(tenant: Tenant, image: int) -> str:
    _, link = await tenant.call("GET", f"/images/{image}/download-url")
    return "/" + link["url"].split("/", 3)[3]


@pytest.mark.parametrize(
    ("sent", "status", "content_range"),
    [
        ("bytes=2-5", 206, "bytes 2-5/{size}"),
        ("bytes=-4", 206, "bytes {suffix}-{last}/{size}"),
        ("bytes=0-999999", 206, "bytes 0-{last}/{size}"),
        ("bytes=5-2", 416, "bytes */{size}"),
        ("bytes=-0", 416, "bytes */{size}"),
        ("bytes=999999-", 416, "bytes */{size}"),
        ("bytes=0-1,4-5", 200, None),
        ("pages=1-2", 200, None),
        ("bytes=x", 200, None),
    ],
)
async def test_ranges_follow_rfc_9110(
    api: Api, tenant: Tenant, sent: str, status: int, content_range: str | None
) -> None:
    data = encoded()
    path = await path_of(tenant, (await tenant.upload(data))[1]["id"])
    values = {"size": len(data), "last": len(data) - 1, "suffix": len(data) - 4}
    async with api.http.get(path, headers={"Range": sent}) as response:
        assert response.status == status
        assert response.headers.get("Content-Range") == (content_range and content_range.format(**values))
        body = await response.read()
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    if status == 200:
        assert body == data


async def test_an_if_range_of_another_version_gets_the_whole(api: Api, tenant: Tenant) -> None:
    data = encoded()
    path = await path_of(tenant, (await tenant.upload(data))[1]["id"])
    async with api.http.head(path, headers={"Range": "bytes=0-1"}) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(data)))
        etag, modified = response.headers["ETag"], response.headers["Last-Modified"]
        assert response.headers["Cache-Control"].startswith("private, max-age=")
    for condition, status in ((etag, 206), (modified, 206), ('"old"', 200), (f"W/{etag}", 200)):
        async with api.http.get(path, headers={"Range": "bytes=0-1", "If-Range": condition}) as response:
            assert response.status == status, condition


async def test_the_url_of_a_deleted_image_ends_immediately(api: Api, tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    path = await path_of(tenant, body["id"])
    assert (await tenant.call("DELETE", f"/images/{body['id']}"))[0] == 204
    async with api.http.get(path) as response:
        assert response.status == 404
    assert api.files() == []


async def test_lists_and_details_include_urls_on_request(api: Api, tenant: Tenant) -> None:
    _, body = await tenant.upload(encoded())
    _, plain = await tenant.call("GET", "/images")
    assert "urls" not in plain["items"][0]
    _, page = await tenant.call("GET", "/images?include=urls")
    _, detail = await tenant.call("GET", f"/images/{body['id']}?include=urls")
    assert detail["urls"] == page["items"][0]["urls"]
    assert detail["urls"]["thumbnail"] is None
    async with api.http.get("/" + detail["urls"]["original"].split("/", 3)[3]) as response:
        assert response.status == 200
    status, problem = await tenant.call("GET", "/images?include=everything")
    assert (status, list(problem["errors"])) == (422, ["include"])


async def test_urls_of_a_whole_page_do_not_use_up_the_rate(api: Api) -> None:
    tenant = await api.new_client("free", requests_per_minute=60, burst=20)
    _, body = await tenant.upload(encoded())
    statuses = {(await tenant.call("GET", f"/images/{body['id']}/download-url"))[0] for _ in range(50)}
    assert statuses == {200}
    assert (await tenant.call("GET", "/images"))[0] == 200


@pytest.mark.parametrize("ttl", [1, 60, 900, 3600, 7 * 24 * 3600])
def test_urls_are_valid_for_their_time_and_expire_together(ttl: int) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
    expiry = url_expiry(now, ttl)
    step = timedelta(seconds=min(ttl, 900))
    assert timedelta(seconds=ttl) <= expiry - now < timedelta(seconds=ttl) + step
    assert expiry.timestamp() % step.total_seconds() == 0
    assert url_expiry(expiry - timedelta(seconds=ttl), ttl) == expiry
