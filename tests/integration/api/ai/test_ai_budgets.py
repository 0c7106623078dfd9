"""Budgets of AI calls: exhausted ones, policies, and reported usage."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from imago.ai.factory import Providers, build_providers
from imago.core.ai_usage.ledger import DatabaseLedger
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.nats.breaker_store import SharedBreaker
from imago.nats.connection import NatsConnection
from imago.settings import Settings
from imago.telemetry.logs import configure_logging
from imago.telemetry.provider_calls import ProviderCalls
from tests.integration.api.conftest import Api, Tenant, serve
from tests.support.providers import GEMINI_KEY, OPENROUTER_KEY, FakeProvider, fake_provider, says, throttles

TASK = {
    "title": "Migrate the archive",
    "objective": "The archive is in S3.",
    "steps": ["Copy"],
    "acceptance_criteria": ["All checksums match"],
    "estimate": "two days",
    "priority": "high",
    "tags": ["s3"],
}
BODY = {"description": "Please migrate the archive to S3."}


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with fake_provider(says(TASK)) as running:
        yield running


@pytest.fixture
async def api(sqlite_db: Database, tmp_path: Path, fake: FakeProvider) -> AsyncIterator[Api]:
    """An API with a text provider."""
    settings = Settings(
        ai_provider="openrouter",
        ai_model="some/model",
        openrouter_api_key=OPENROUTER_KEY,
        gemini_api_key=GEMINI_KEY,
        openrouter_base_url=f"{fake.url}/v1",
        ai_prices={"some/model": {"input": 1.0, "output": 10.0}},  # type: ignore[dict-item]
        ai_timeout=5,
    )
    providers = _providers(settings, sqlite_db)
    served = await serve(sqlite_db, tmp_path / "objects", texts_for=providers.texts)
    yield served
    await served.http.close()
    await providers.close()


def _providers(settings: Settings, db: Database) -> Providers:
    observer = ProviderCalls()
    breaker = SharedBreaker(NatsConnection(settings, name="test"), probe=timedelta(seconds=10), observer=observer)
    return build_providers(settings, ledger=DatabaseLedger(db), breaker=breaker, observer=observer)


async def change(tenant: Tenant, **patch: Any) -> dict[str, Any]:
    status, changed = await tenant.api.call("PATCH", f"/auth/clients/{tenant.client.id}", json=patch)
    assert status == 200, changed
    assert isinstance(changed, dict)
    return changed


async def test_the_error_of_an_exhausted_budget_says_when_it_resets(api: Api, fake: FakeProvider) -> None:
    tenant = await api.new_client(ai_calls_per_month=1)
    status, draft = await tenant.call("POST", "/ai/draft-task", json=BODY)
    assert (status, draft["model_used"]) == (200, "openrouter/some/model")
    async with api.http.post("/ai/draft-task", json=BODY, headers={"X-API-Key": tenant.key}) as response:
        problem = await response.json(content_type=None)
        assert response.content_type == "application/problem+json"
        assert (response.status, problem["code"], problem["limit"]) == (429, "ai-budget-exhausted", 1)
        assert datetime.fromisoformat(problem["resets_at"]) > utc_now()
        assert int(response.headers["Retry-After"]) > 0
    assert len(fake.received) == 1


async def test_usage_includes_calls_tokens_and_cost(api: Api) -> None:
    tenant = await api.new_client()
    await tenant.call("POST", "/ai/draft-task", json=BODY)
    status, me = await tenant.call("GET", "/auth/me")
    assert status == 200
    usage = me["usage"]
    assert (usage["ai_calls_this_month"], usage["ai_calls_without_cost_this_month"]) == (1, 0)
    assert (usage["ai_input_tokens_this_month"], usage["ai_output_tokens_this_month"]) == (300, 40)
    assert usage["ai_cost_usd_this_month"] == pytest.approx(0.0007)
    assert datetime.fromisoformat(usage["ai_month_ends_at"]) > utc_now()
    status, detail = await api.call("GET", f"/auth/clients/{tenant.client.id}")
    assert (status, detail["usage"]) == (200, usage)


async def test_the_clients_policy_overrides_the_servers(api: Api, fake: FakeProvider) -> None:
    tenant = await api.new_client(ai_calls_per_month=0)
    assert (await tenant.call("POST", "/ai/draft-task", json=BODY))[0] == 429
    changed = await change(tenant, pipeline={"ai_budget_policy": "offline"})
    assert changed["pipeline"]["ai_budget_policy"] == "offline"
    # The old key is cached for some seconds, a new one is not.
    status, rotated = await api.call("POST", f"/auth/clients/{tenant.client.id}/rotate-key", json={})
    assert status == 200
    fresh = Tenant(api, tenant.client, rotated["api_key"])
    status, draft = await fresh.call("POST", "/ai/draft-task", json=BODY)
    assert (status, draft["model_used"]) == (200, "offline/draft")
    assert (await change(tenant, pipeline={"ai_budget_policy": None}))["pipeline"]["ai_budget_policy"] is None
    status, problem = await api.call(
        "PATCH", f"/auth/clients/{tenant.client.id}", json={"pipeline": {"ai_budget_policy": "spend"}}
    )
    assert (status, problem["code"]) == (422, "validation-failed")
    assert fake.received == []


async def test_a_throttling_provider_is_a_503_with_its_delay(api: Api, fake: FakeProvider) -> None:
    fake.will(throttles(42))
    tenant = await api.new_client()
    async with api.http.post("/ai/draft-task", json=BODY, headers={"X-API-Key": tenant.key}) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"], problem["reason"]) == (503, "ai-unavailable", "provider-throttled")
        assert 41 <= int(response.headers["Retry-After"]) <= 54
    assert (await tenant.call("GET", "/auth/me"))[1]["usage"]["ai_calls_this_month"] == 0


async def test_provider_keys_are_in_no_response_metric_or_log(
    api: Api, fake: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    async def repeats_the_key(_: Any, request: web.Request) -> web.Response:
        # Some providers do.
        sent = request.headers["Authorization"]
        return web.json_response({"error": {"code": 401, "message": f"Incorrect API key provided: {sent}"}}, status=401)

    fake.will(repeats_the_key)
    # Log at debug level to the stream that is captured.
    configure_logging(level="debug", console=False)
    tenant = await api.new_client()
    _, problem = await tenant.call("POST", "/ai/draft-task", json=BODY)
    assert problem["reason"] == "provider-misconfigured"
    exposed = api.services.health.exposition()[0].decode()
    captured = capsys.readouterr()
    configure_logging(level="warning", console=True)
    assert "Incorrect API key provided" in captured.err
    for place in (str(problem), exposed, captured.out, captured.err):
        assert OPENROUTER_KEY not in place
        assert GEMINI_KEY not in place
