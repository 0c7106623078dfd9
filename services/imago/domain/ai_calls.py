"""What a call to a paid provider needs around it: who it is for, what it cost, the client's budget, the breaker."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


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


class BudgetExhausted(Exception):
    """The client's AI calls of this month are used up; they begin anew at `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__("the AI calls of this month are used up")
        self.until = until


class Ledger(Protocol):
    """Counts calls against a client's month: reserved before the call, settled or given back after it."""

    async def reserve(self, context: CallContext, *, provider: str) -> int:
        """Take one call of the month, by one conditional update, and return the reservation; raise BudgetExhausted."""
        ...

    async def settle(self, reservation: int, usage: TokenUsage) -> None:
        """Write down what the call used."""
        ...

    async def give_back(self, reservation: int) -> None:
        """Uncount a call that never reached the model (refused, throttled, unreachable)."""
        ...


class Breaker(Protocol):
    """The circuit breaker of one provider, shared by all processes."""

    async def wait(self, provider: str) -> timedelta | None:
        """Return how long the provider is to be left alone, or None where it may be called."""
        ...

    async def succeeded(self, provider: str) -> None:
        """Say that a call went well."""
        ...

    async def failed(self, provider: str, *, retry_after: timedelta | None = None) -> None:
        """Say that a call failed by the provider's fault, with the delay it asked for, if any."""
        ...
