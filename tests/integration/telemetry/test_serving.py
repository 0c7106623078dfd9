"""The metrics port of processes without another HTTP server."""

import aiohttp

from imago.telemetry import metrics
from imago.telemetry.serving import metrics_server


async def _available() -> None:
    return


async def _unavailable() -> None:
    raise ConnectionError("postgresql://user:secret@host is unreachable")


async def test_metrics_and_health_are_served_and_name_an_unavailable_dependency_without_its_secrets() -> None:
    checks = {"storage": _available, "database": _unavailable}
    async with (
        metrics_server("127.0.0.1", 0, exposition=metrics.exposition, checks=checks) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get("/health") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with session.get("/health/detailed") as response:
            text = await response.text()
            assert response.status == 503
            assert '"error":"ConnectionError"' in text
            assert '"storage":{"ok":true' in text
            assert "secret" not in text
        async with session.get(
            "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
        ) as response:
            assert response.content_type == "application/openmetrics-text"
            assert "# EOF" in await response.text()
        async with session.get("/images") as response:
            assert response.status == 404
