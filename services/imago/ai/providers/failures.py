"""How a request to a provider fails, whoever the provider is."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from imago.core.ai_usage.model import TokenUsage


class Outcome(StrEnum):
    """What became of one request, as the metric names it."""

    OK = "ok"
    INVALID = "invalid"
    """An answer that fits no schema."""
    BLOCKED = "blocked"
    """The provider declines to work on the content."""
    REFUSED = "refused"
    """The provider can't do anything with the request."""
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    """Out of reach or overloaded: nobody's fault, and nothing that a try should count for."""
    MISCONFIGURED = "misconfigured"
    """The provider accepts neither this server's key nor its account or model."""
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass
class CallFailed(Exception):
    """A request that gave no answer.

    `note` is for the log and never for a client. `usage` is there where the model worked and says what that took;
    `reached` tells whether it may have worked.
    """

    outcome: Outcome
    note: str = ""
    retry_after: timedelta | None = None
    usage: TokenUsage | None = None
    reached: bool = False

    def __str__(self) -> str:
        return f"{self.outcome}: {self.note}"


# Gateways' ways to say that what is behind them is away or overloaded (Cloudflare's 52x, Anthropic's 529).
_AWAY = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 529})

# An account without credit is as little the image's fault as a revoked key or a model that doesn't exist.
_MISCONFIGURED = frozenset({401, 402, 403, 404, 405, 410})


def failure_of_status(status: int, *, note: str, retry_after: timedelta | None) -> CallFailed:
    """Return what an HTTP status other than success means."""
    if status == 429:
        return CallFailed(Outcome.THROTTLED, note, retry_after)
    if status in _AWAY:
        return CallFailed(Outcome.UNAVAILABLE, note, retry_after)
    if status in _MISCONFIGURED or 300 <= status < 400:
        return CallFailed(Outcome.MISCONFIGURED, note)
    if status == 408:
        return CallFailed(Outcome.TIMEOUT, note)
    if 400 <= status < 500:
        return CallFailed(Outcome.REFUSED, note)
    return CallFailed(Outcome.ERROR, note, retry_after)
