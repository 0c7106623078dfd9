"""Metrics and spans of calls to AI providers."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from imago.core.ai_usage.model import BudgetPolicy, CallKind, TokenUsage
from imago.telemetry import provider_calls, tracing
from imago.telemetry.metrics import exposition
from imago.telemetry.provider_calls import ProviderCalls

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_a_call_is_a_span_in_the_trace_of_its_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (provider_calls, tracing):
        monkeypatch.setattr(module, "_tracer", provider.get_tracer("imago"))
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    with tracing.consumer_span("stage vision", headers), ProviderCalls().span("gemini", "m", CallKind.VISION):
        assert f"{trace.get_current_span().get_span_context().trace_id:032x}" == TRACE
    call, stage = exporter.get_finished_spans()
    assert call.context is not None
    assert (call.name, f"{call.context.trace_id:032x}") == ("chat m", TRACE)
    assert call.parent is not None
    assert stage.context is not None
    assert call.parent.span_id == stage.context.span_id
    assert dict(call.attributes or {})["gen_ai.provider.name"] == "gemini"


def test_calls_tokens_costs_and_breakers_are_counted() -> None:
    calls = ProviderCalls()
    kind = CallKind.DRAFT_TASK
    calls.called("test-provider", kind, outcome="ok", seconds=1.5)
    calls.used("test-provider", kind, TokenUsage("m", 300, 40, 2_500_000))
    calls.used("test-provider", kind, TokenUsage("m", 1, 1, None))
    calls.invalid("test-provider", kind)
    calls.fell_back(kind, to="test-provider")
    calls.budget_exhausted(kind, BudgetPolicy.HOLD)
    calls.breaker({"test-provider": True})
    exposed = exposition()[0].decode().splitlines()
    labels = 'kind="draft-task",provider="test-provider"'
    assert 'imago_ai_calls_total{kind="draft-task",outcome="ok",provider="test-provider"} 1.0' in exposed
    assert f"imago_ai_call_duration_seconds_sum{{{labels}}} 1.5" in exposed
    assert 'imago_ai_tokens_total{direction="input",kind="draft-task",provider="test-provider"} 301.0' in exposed
    assert f"imago_ai_cost_usd_total{{{labels}}} 2.5" in exposed
    assert f"imago_ai_unpriced_calls_total{{{labels}}} 1.0" in exposed
    assert f"imago_ai_invalid_answers_total{{{labels}}} 1.0" in exposed
    assert f"imago_ai_fallbacks_total{{{labels}}} 1.0" in exposed
    assert any(line.startswith('imago_ai_budget_exhausted_total{kind="draft-task",policy="hold"}') for line in exposed)
    assert 'imago_ai_breaker_open{provider="test-provider"} 1.0' in exposed
    calls.breaker({"test-provider": False})
