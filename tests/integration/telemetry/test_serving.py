"""The port of metrics of processes that serve nothing else."""

import aiohttp

from imago.telemetry import metrics
from imago.telemetry.serving import metrics_server


async def _fine() -> None:
    return


async def _away() -> None:
    raise ConnectionError("postgresql://user:secret@host is away")


async def test_metrics_and_health_are_served_and_a_part_that_is_away_is_named_without_its_secrets() -> None:
    checks = {"storage": _fine, "database": _away}
    async with (
        metrics_server("127.0.0.1", 0, exposition=metrics.exposition, checks=checks) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get("/health") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        async with session.get("/health/detailed") as answer:
            text = await answer.text()
            assert answer.status == 503
            assert '"error":"ConnectionError"' in text
            assert '"storage":{"ok":true' in text
            assert "secret" not in text
        async with session.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}) as answer:
            assert answer.content_type == "application/openmetrics-text"
            assert "# EOF" in await answer.text()
        async with session.get("/images") as answer:
            assert answer.status == 404
