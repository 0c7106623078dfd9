"""METRICS_PORT: metrics and health checks on a port that only the platform reaches."""

import dataclasses
import socket

import pytest
from aiohttp import ClientSession

from imago.api.server import bind, serving
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
