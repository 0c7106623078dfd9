"""The filters of places, the orders and the count of `GET /images`."""

import base64
import json
from typing import Any

import pytest

from imago.core.images.lists.similar import store_hashes
from imago.db.engine import RowScope
from tests.integration.api.conftest import Api, Tenant
from tests.support.images import encoded

REFUSED = {
    "near": [
        "",
        "1",
        "1,2",
        "1,2,3,4",
        "a,b,c",
        "91,0,1",
        "0,181,1",
        "0,0,0",
        "0,0,-1",
        "0,0,20039",
        "nan,0,1",
        "0,0,inf",
    ],
    "bbox": [
        "",
        "1,2,3",
        "1,2,3,4,5",
        "0,10,1,5",
        "-181,0,1,1",
        "0,-91,1,1",
        "0,0,1,91",
        "nan,0,1,1",
        "0,0,inf,1",
        "a,b,c,d",
    ],
    "country": ["", "Atlantis", "%", "F" * 1000],
    "place": ["", "a" * 201],
    "sort": ["", "date", "-relevance", "+size", "created,size", "relevance"],
    "total": ["yes", "1", ""],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
async def test_a_wrong_parameter_is_refused_by_its_name(tenant: Tenant, name: str, value: str) -> None:
    status, problem = await tenant.call("GET", "/images", params={name: value})
    assert status == 422
    assert list(problem["errors"]) == [name]


async def test_a_refusal_says_what_is_right(tenant: Tenant) -> None:
    for name, value, remedy in (
        ("near", "91,0,1", "latitudes are between -90 and 90"),
        ("near", "1,2", "such as 48.8584,2.2945,5"),
        ("bbox", "0,10,1,5", "west,south,east,north"),
        ("country", "Atlantis", "such as FR"),
        ("sort", "relevance", "needs `q`"),
    ):
        _, problem = await tenant.call("GET", "/images", params={name: value})
        assert remedy in problem["errors"][name][0]


@pytest.mark.parametrize(
    "query",
    [
        *(
            {"near": "48.8584,2.2945,5"},
            {"near": "-90,180.0,20038"},
            {"bbox": "179,-20,-179,-10"},
            {"place": "Paris"},
        ),
        *({"country": "fr"}, {"country": "Allemagne"}, {"q": "a", "sort": "relevance"}, {"q": "a", "sort": "-size"}),
    ],
)
async def test_what_the_documentation_shows_is_accepted(tenant: Tenant, query: dict[str, str]) -> None:
    status, page = await tenant.call("GET", "/images", params={**query, "total": "true"})
    assert (status, page["items"], page["total"], page["total_exact"]) == (200, [], 0, True)


async def test_a_cursor_belongs_to_its_order(tenant: Tenant) -> None:
    for name in ("b.png", "a.png", "é.png"):
        await tenant.upload(encoded(), name=name)
    cursors: dict[str, Any] = {}
    for sort in ("-created", "created", "taken", "-taken", "size", "name", "-name"):
        _, page = await tenant.call("GET", "/images", params={"sort": sort, "limit": "1", "total": "true"})
        assert page["total"] == 3
        cursors[sort] = page["next_cursor"]
    for sort in cursors:
        for other, cursor in cursors.items():
            status, page = await tenant.call("GET", "/images", params={"sort": sort, "cursor": cursor})
            assert (status, "errors" in page) == ((200, False) if sort == other else (422, True)), (sort, other)
            assert sort != other or len(page["items"]) == 2
    _, page = await tenant.call("GET", "/images", params={"sort": "name"})
    assert [item["original_name"] for item in page["items"]] == ["a.png", "b.png", "é.png"]


async def test_no_cursor_makes_an_ordered_list_fail(api: Api) -> None:
    tenant = await api.new_client(requests_per_minute=10_000_000)
    values: list[Any] = [
        None,
        "",
        "a",
        "\0",
        "\ud800",
        1,
        -1,
        2**63,
        2**64,
        1.5,
        True,
        [],
        {},
        "2020-01-01",
        "9999-12-31T23:59:59",
    ]
    ids: list[Any] = [1, 0, -1, 2**63, "1", None, True]
    for sort in ("created", "taken", "-taken", "size", "-name"):
        for key in [[sort, value, image_id] for value in values for image_id in ids] + [[sort], [sort, 1], sort, 7]:
            cursor = base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")
            status, _ = await tenant.call("GET", "/images", params={"sort": sort, "cursor": cursor})
            assert status in (200, 422), (sort, key)


async def test_look_alikes_are_those_of_the_client(api: Api) -> None:
    mine, other = await api.new_client(), await api.new_client()
    ids = [(await tenant.upload(encoded()))[1]["id"] for tenant in (mine, mine, other)]
    for tenant, image in zip((mine, mine, other), ids, strict=True):
        async with api.services.db.write(RowScope(tenant.client.id)) as connection:
            await store_hashes(connection, [(image, tenant.client.id, 0x1234_5678)])
    _, found = await mine.call("GET", f"/images/{ids[0]}/similar")
    assert [(item["id"], item["same_picture"], item["score"]) for item in found["items"]] == [(ids[1], True, 1.0)]
    assert (await mine.call("GET", f"/images/{ids[0]}/status", params={"include": "similar_to"}))[1]["similar_to"] == [
        ids[1]
    ]
    assert "similar_to" not in (await mine.call("GET", f"/images/{ids[0]}/status"))[1]
    for path in (f"/images/{ids[2]}/similar", f"/images/{ids[2]}/status?include=similar_to", "/images/999/similar"):
        assert (await mine.call("GET", path))[0] == 404
    for query in ("/similar?limit=0", "/similar?limit=101", "/status?include=urls"):
        assert (await mine.call("GET", f"/images/{ids[0]}{query}"))[0] == 422
