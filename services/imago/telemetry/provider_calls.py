"""Metrics and spans of calls to AI providers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from imago.core.ai_usage.model import BudgetPolicy, CallKind, TokenUsage
from imago.telemetry import metrics

_tracer = trace.get_tracer("imago")


class ProviderCalls:
    """Reports calls to Prometheus and OpenTelemetry (`CallObserver`)."""

    @contextmanager
    def span(self, provider: str, model: str, kind: CallKind) -> Iterator[None]:
        """Run the block in a span without content, by OpenTelemetry's conventions for generative AI."""
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "imago.ai.kind": str(kind),
        }
        with _tracer.start_as_current_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes):
            yield

    def called(self, provider: str, kind: CallKind, *, outcome: str, seconds: float) -> None:
        """Count a request, and observe its duration."""
        metrics.AI_CALLS.labels(provider, kind, outcome).inc()
        metrics.AI_CALL_SECONDS.labels(provider, kind).observe(seconds)

    def used(self, provider: str, kind: CallKind, usage: TokenUsage) -> None:
        """Count tokens and cost."""
        metrics.AI_TOKENS.labels(provider, kind, "input").inc(usage.input_tokens)
        metrics.AI_TOKENS.labels(provider, kind, "output").inc(usage.output_tokens)
        if usage.cost_microusd is None:
            metrics.AI_UNPRICED_CALLS.labels(provider, kind).inc()
        else:
            metrics.AI_COST.labels(provider, kind).inc(usage.cost_microusd / 1_000_000)

    def invalid(self, provider: str, kind: CallKind) -> None:
        """Count a response that does not match the schema."""
        metrics.AI_INVALID_ANSWERS.labels(provider, kind).inc()

    def fell_back(self, kind: CallKind, *, to: str) -> None:
        """Count a response from a fallback provider."""
        metrics.AI_FALLBACKS.labels(kind, to).inc()

    def budget_exhausted(self, kind: CallKind, policy: BudgetPolicy) -> None:
        """Count a call that exceeds a client's budget."""
        metrics.AI_BUDGET_EXHAUSTED.labels(kind, policy).inc()

    def breaker(self, states: Mapping[str, bool]) -> None:
        """Set which breakers are open."""
        for provider, is_open in states.items():
            metrics.AI_BREAKER_OPEN.labels(provider).set(is_open)

    def breaker_blind(self) -> None:
        """Count a use of a breaker's local copy."""
        metrics.AI_BREAKER_BLIND.inc()
