"""The document: valid OpenAPI 3, complete, and true as far as generated requests can tell."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV30SpecValidator
from tests.integration.api.conftest import Api, serve
from tests.support.images import encoded

from imago.database.engine import Database


async def test_the_document_is_valid_openapi_3(api: Api) -> None:
    async with api.http.get("/openapi.json") as answer:
        document = await answer.json()
    OpenAPIV30SpecValidator(document).validate()


async def test_every_route_is_in_the_document(api: Api) -> None:
    async with api.http.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    served = {
        (route.resource.canonical, route.method.lower())
        for route in api.http.server.app.router.routes()  # type: ignore[union-attr]
        if route.resource is not None
    }
    assert {(path, method) for path, item in paths.items() for method in item} == served


async def test_the_document_is_the_same_however_often_it_is_made(sqlite_db: Database, tmp_path: Path) -> None:
    documents = []
    for name in ("one", "two"):
        served = await serve(sqlite_db, tmp_path / name)
        async with served.http.get("/openapi.json") as answer:
            documents.append(await answer.json())
        await served.http.close()
    assert documents[0] == documents[1]


@pytest.fixture(scope="module")
def live(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """An API on a port, served by a thread of its own, with a client and an image; its URL and the client's key."""
    folder, ready, stop = tmp_path_factory.mktemp("live"), threading.Event(), threading.Event()
    found: dict[str, str] = {}

    async def run() -> None:
        path = folder / "imago.db"
        path.write_bytes(sqlite_template.read_bytes())
        db = Database(f"sqlite+aiosqlite:///{path}")
        api = await serve(db, folder / "objects", max_upload_size_mb=1)
        tenant = await api.new_client()
        await tenant.upload(encoded())
        found["url"], found["key"] = str(api.http.make_url("")), tenant.key
        ready.set()
        await asyncio.to_thread(stop.wait)
        await api.http.close()
        await db.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(30), "the API did not start"
    yield found["url"].rstrip("/"), found["key"]
    stop.set()
    thread.join(30)


def test_generated_requests_are_answered_as_documented(live: tuple[str, str]) -> None:
    url, key = live
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    failures = []
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=60,
            derandomize=True,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def answers_as_documented(case: schemathesis.Case) -> None:
            case.call_and_validate(headers={"X-API-Key": key})

        try:
            answers_as_documented()
        except Exception as failure:
            failures.append(f"{operation.method.upper()} {operation.path}: {failure}")
    assert not failures, "\n\n".join(failures)
