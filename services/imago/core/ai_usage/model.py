"""Calls to paid AI providers: their context, cost and budget, and the protocols of ledger, breaker and observer."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

# The error code of a stage that is parked until its client has AI calls left; maintenance finds it by this code.
BUDGET_CODE = "ai-budget-exhausted"


class CallKind(StrEnum):
    """The purpose of a call."""

    VISION = "vision"
    OCR = "ocr"
    SUMMARIZE = "summarize"
    DRAFT_TASK = "draft-task"


class BudgetPolicy(StrEnum):
    """The fate of a client's jobs when its AI calls of the month are used up."""

    HOLD = "hold"
    """They are parked until the next month or a higher limit."""
    OFFLINE = "offline"
    """The offline provider runs them, as `model_used` shows."""
    REJECT = "reject"
    """They fail."""


@dataclass(frozen=True)
class CallContext:
    """The client and the purpose of a call; `ai_calls_per_month` is the client's limit."""

    client_id: int
    kind: CallKind
    ai_calls_per_month: int
    policy: BudgetPolicy
    image_id: int | None = None


@dataclass(frozen=True)
class TokenUsage:
    """The tokens of a call as the provider reports them, and its cost in millionths of a US dollar if known."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int | None = None


@dataclass(frozen=True)
class Price:
    """The price of a model's tokens, in US dollars per million."""

    input: float
    output: float

    def of(self, usage: TokenUsage) -> int:
        """Return the cost of a call in millionths of a US dollar."""
        return round(usage.input_tokens * self.input + usage.output_tokens * self.output)


@dataclass(frozen=True)
class AiUsage:
    """The totals of a client's calls in one calendar month (UTC); `cost_microusd` covers calls with a known price."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    unpriced_calls: int = 0

    @property
    def cost_usd(self) -> float | None:
        """The cost in US dollars; None if no call has a known price."""
        if self.calls and self.unpriced_calls >= self.calls:
            return None
        return self.cost_microusd / 1_000_000


def month_of(moment: datetime) -> str:
    """Return the calendar month of a time, in UTC, as `2026-11`."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def next_month(moment: datetime) -> datetime:
    """Return the start of the next calendar month, in UTC."""
    utc = moment.astimezone(UTC)
    year, month = (utc.year + 1, 1) if utc.month == 12 else (utc.year, utc.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)


class BudgetExhausted(Exception):
    """The client's AI calls of this month are used up until `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__("the AI calls of this month are used up")
        self.until = until


class Ledger(Protocol):
    """Counts calls against a client's month: reserved before a call, settled or cancelled after it."""

    async def reserve(self, context: CallContext, *, provider: str) -> int:
        """Count one call atomically and return its reservation; raise BudgetExhausted.

        After any other exception the ledger is unavailable, and the call must not be made.
        """
        ...

    async def settle(self, reservation: int, usage: TokenUsage) -> None:
        """Record what a call used; never raises, because its response is already paid for."""
        ...

    async def cancel(self, reservation: int) -> None:
        """Subtract a call that never reached the model (refused, throttled, unreachable); never raises."""
        ...


class Breaker(Protocol):
    """The circuit breaker of one provider, shared by all processes."""

    async def wait(self, provider: str) -> timedelta | None:
        """Return how long not to call the provider, or None if it may be called."""
        ...

    async def succeeded(self, provider: str) -> None:
        """Report a successful call."""
        ...

    async def failed(self, provider: str, *, retry_after: timedelta | None = None) -> timedelta:
        """Report a failed call, with the delay that the provider requested, if any.

        Returns how long not to call the provider; 0 if it may be called again.
        """
        ...

    async def released(self, provider: str) -> None:
        """Report a call that ended without a result about the provider, so that another caller may probe it."""
        ...


class CallObserver(Protocol):
    """Observes calls to providers, for metrics and traces."""

    def span(self, provider: str, model: str, kind: CallKind) -> AbstractContextManager[None]:
        """Run the block in a span of the current trace."""
        ...

    def called(self, provider: str, kind: CallKind, *, outcome: str, seconds: float) -> None:
        """Record one request to a provider; outcomes are those of `imago.ai.providers.failures`."""
        ...

    def used(self, provider: str, kind: CallKind, usage: TokenUsage) -> None:
        """Record the tokens of a request."""
        ...

    def invalid(self, provider: str, kind: CallKind) -> None:
        """Record a response that matches no schema."""
        ...

    def fell_back(self, kind: CallKind, *, to: str) -> None:
        """Record that a fallback provider responded."""
        ...

    def budget_exhausted(self, kind: CallKind, policy: BudgetPolicy) -> None:
        """Record that a client's calls of the month were used up."""
        ...

    def breaker(self, states: Mapping[str, bool]) -> None:
        """Record which providers' breakers are open."""
        ...

    def breaker_blind(self) -> None:
        """Record that the breakers' shared state could not be read or written."""
        ...
