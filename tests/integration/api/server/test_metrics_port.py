"""METRICS_PORT: metrics and health checks on a port that only the platform reaches."""

import dataclasses
import os
import socket
from pathlib import Path

import pytest
from aiohttp import ClientSession

from imago.api.server.server import bind, serving
from tests.integration.api.conftest import Api


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("path", ["/metrics", "/health", "/health/ready", "/health/detailed"])
async def test_the_metrics_port_serves_metrics_and_health_checks(api: Api, path: str) -> None:
    settings = api.services.settings.model_copy(update={"host": "127.0.0.1", "metrics_port": free_port()})
    services = dataclasses.replace(api.services, settings=settings)
    url = f"http://127.0.0.1:{settings.metrics_port}{path}"
    async with serving(services, bind("127.0.0.1", 0)), ClientSession() as http, http.get(url) as response:
        assert response.status == 200, await response.text()
        assert await response.read()


async def test_with_a_metrics_port_the_public_port_has_no_metrics(api: Api) -> None:
    settings = api.services.settings.model_copy(update={"host": "127.0.0.1", "metrics_port": free_port()})
    listener = bind("127.0.0.1", 0)
    async with serving(dataclasses.replace(api.services, settings=settings), listener), ClientSession() as http:
        public = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for path, expected in (("/health", 200), ("/metrics", 404), ("/health/detailed", 404)):
            async with http.get(public + path) as response:
                assert response.status == expected, path


async def test_detailed_health_names_the_ocr_engine_and_the_provider(api: Api) -> None:
    async with api.http.get("/health/detailed") as response:
        body = await response.json()
    assert body["ocr"] == {"engine": "auto", "languages": "fra+eng", "fallback": "none"}
    assert body["ai"] == {"provider": "offline", "model": None, "fallback": []}
    assert body["workers"] is None


async def test_detailed_health_reports_a_corrupt_database(api: Api) -> None:
    path = Path(api.services.db.url.database or "")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(data)
    async with api.http.get("/health/detailed") as response:
        body = await response.json()
        assert response.status == 503
    assert body["parts"]["database"]["error"] == "DatabaseCorrupt"
