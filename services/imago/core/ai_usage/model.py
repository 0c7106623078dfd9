"""What a call to a paid provider needs around it: who it is for, what it cost, the client's budget, the breaker."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

# The code of a stage that waits because its client's calls of the month are used up; the upkeep wakes it by this.
BUDGET_CODE = "ai-budget-exhausted"


class CallKind(StrEnum):
    """What a provider is called for."""

    VISION = "vision"
    OCR = "ocr"
    SUMMARIZE = "summarize"
    DRAFT_TASK = "draft-task"


class BudgetPolicy(StrEnum):
    """What happens to a client's work when its AI calls of the month are used up."""

    HOLD = "hold"
    """It waits for the next month, or for a higher limit."""
    OFFLINE = "offline"
    """The offline provider does it, and its name says so in `model_used`."""
    REJECT = "reject"
    """It ends with an error."""


@dataclass(frozen=True)
class CallContext:
    """For whom and for what a provider is called; `ai_calls_per_month` is the client's limit."""

    client_id: int
    kind: CallKind
    ai_calls_per_month: int
    policy: BudgetPolicy
    image_id: int | None = None


@dataclass(frozen=True)
class TokenUsage:
    """What a call used, as the provider says it, and its price in millionths of a US dollar where that is known."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int | None = None


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost, in US dollars a million."""

    input: float
    output: float

    def of(self, usage: TokenUsage) -> int:
        """Return the price of a call in millionths of a US dollar."""
        return round(usage.input_tokens * self.input + usage.output_tokens * self.output)


@dataclass(frozen=True)
class AiUsage:
    """What a client's calls of one calendar month (UTC) came to; `cost_microusd` is of those whose price is known."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    unpriced_calls: int = 0

    @property
    def cost_usd(self) -> float | None:
        """What they cost in US dollars; None where not one call's price is known."""
        if self.calls and self.unpriced_calls >= self.calls:
            return None
        return self.cost_microusd / 1_000_000


def month_of(moment: datetime) -> str:
    """Return the calendar month of a moment, in UTC, as `2026-11`."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def next_month(moment: datetime) -> datetime:
    """Return when the next calendar month begins, in UTC."""
    utc = moment.astimezone(UTC)
    year, month = (utc.year + 1, 1) if utc.month == 12 else (utc.year, utc.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)


class BudgetExhausted(Exception):
    """The client's AI calls of this month are used up; they begin anew at `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__("the AI calls of this month are used up")
        self.until = until


class Ledger(Protocol):
    """Counts calls against a client's month: reserved before the call, settled or given back after it."""

    async def reserve(self, context: CallContext, *, provider: str) -> int:
        """Take one call of the month, by one conditional update, and return the reservation; raise BudgetExhausted.

        What raises otherwise is trouble of the ledger's own, and then nothing may be called.
        """
        ...

    async def settle(self, reservation: int, usage: TokenUsage) -> None:
        """Write down what the call used; never raises, because its answer is there and paid for."""
        ...

    async def give_back(self, reservation: int) -> None:
        """Uncount a call that never reached the model (refused, throttled, unreachable); never raises."""
        ...


class Breaker(Protocol):
    """The circuit breaker of one provider, shared by all processes."""

    async def wait(self, provider: str) -> timedelta | None:
        """Return how long the provider is to be left alone, or None where it may be called."""
        ...

    async def succeeded(self, provider: str) -> None:
        """Say that a call went well."""
        ...

    async def failed(self, provider: str, *, retry_after: timedelta | None = None) -> timedelta:
        """Say that a call failed by the provider's fault, with the delay it asked for, if any.

        Returns how long the provider is to be left alone from now on; 0 where it may be called again.
        """
        ...

    async def released(self, provider: str) -> None:
        """Say that a call came to nothing and tells nothing of the provider, so that another may try it."""
        ...


class CallObserver(Protocol):
    """Sees calls to providers, for metrics and traces."""

    def span(self, provider: str, model: str, kind: CallKind) -> AbstractContextManager[None]:
        """Put what happens inside into a span of the present trace."""
        ...

    def called(self, provider: str, kind: CallKind, *, outcome: str, seconds: float) -> None:
        """Note one request to a provider; outcomes are few and fixed (`ai.failures.Outcome`)."""
        ...

    def used(self, provider: str, kind: CallKind, usage: TokenUsage) -> None:
        """Note what a request used."""
        ...

    def invalid(self, provider: str, kind: CallKind) -> None:
        """Note an answer that fits no schema."""
        ...

    def fell_back(self, kind: CallKind, *, to: str) -> None:
        """Note that another provider than the first one gave the answer."""
        ...

    def budget_exhausted(self, kind: CallKind, policy: BudgetPolicy) -> None:
        """Note that a client's calls of the month were used up."""
        ...

    def breaker(self, states: Mapping[str, bool]) -> None:
        """Note whether providers' breakers are open."""
        ...

    def breaker_blind(self) -> None:
        """Note that the breakers' shared state could not be read or written."""
        ...
