"""No cursor makes a list fail: whatever JSON it encodes, the list answers or refuses it."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from imago.db.engine import Database
from tests.integration.api.conftest import Api, serve

NUMBERS = [0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**300, 1.0, 1.5, -0.0, 1e308]
TEXTS = ["", "a", "1", "\0", "a\0b", "\ud800", "é" * 100, "a" * 200]
KEYS: list[Any] = [
    *(*NUMBERS, *TEXTS, None, True, False, [], {}, {"id": 1}, [[1], "a"], [[[[1]]]]),
    *([number, "a"] for number in (*NUMBERS, True, False, None, "1")),
    *([1, text] for text in (*TEXTS, None, True, 1)),
]


@pytest.fixture
async def any_api(db: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """The API on each database."""
    served = await serve(db, tmp_path / "objects")
    yield served
    await served.http.close()


async def test_no_cursor_makes_a_list_fail(any_api: Api) -> None:
    tenant = await any_api.new_client(requests_per_minute=10_000_000)
    async with any_api.http.get("/openapi.json") as response:
        document = await response.json()
    paths = [
        path
        for path, operations in document["paths"].items()
        if any(parameter["name"] == "cursor" for parameter in operations.get("get", {}).get("parameters", []))
    ]
    assert {
        "/images",
        "/images/tags/all",
        "/auth/clients",
        "/admin/audit",
        "/admin/dead-letters",
        "/admin/reprocess-jobs",
    } <= set(paths)
    for path in paths:
        caller: Api | Any = tenant if path.startswith("/images") else any_api
        for key in KEYS:
            cursor = base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")
            status, _ = await caller.call("GET", path, params={"cursor": cursor})
            assert status in (200, 422), (path, key)
