"""Failures of a call to a provider."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from imago.core.ai_usage.model import TokenUsage


class CallOutcome(StrEnum):
    """The outcome of one call, as the metric's label."""

    OK = "ok"
    INVALID = "invalid"
    """The answer doesn't match the schema."""
    BLOCKED = "blocked"
    """The provider declines to process the content."""
    REFUSED = "refused"
    """The provider can't process the request."""
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    """The provider is unreachable or overloaded. This doesn't count as an attempt."""
    MISCONFIGURED = "misconfigured"
    """The provider doesn't accept this server's key, account or model."""
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass
class CallFailed(Exception):
    """A call without a usable reply.

    `note` is for the log, and never for a client. `usage` is set if the provider reported it. `reached` is true if the
    model may have processed the request.
    """

    outcome: CallOutcome
    note: str = ""
    retry_after: timedelta | None = None
    usage: TokenUsage | None = None
    reached: bool = False

    def __str__(self) -> str:
        return f"{self.outcome}: {self.note}"


# Gateways report an unavailable or overloaded upstream with these (52x: Cloudflare, 529: Anthropic).
_UNAVAILABLE = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 529})

# An account without credit, a revoked key or an unknown model is not the image's fault.
_MISCONFIGURED = frozenset({401, 402, 403, 404, 405, 410})


def failure_of_status(status: int, *, note: str, retry_after: timedelta | None) -> CallFailed:
    """Return the failure for an unsuccessful HTTP status."""
    if status == 429:
        return CallFailed(CallOutcome.THROTTLED, note, retry_after)
    if status in _UNAVAILABLE:
        return CallFailed(CallOutcome.UNAVAILABLE, note, retry_after)
    if status in _MISCONFIGURED or 300 <= status < 400:
        return CallFailed(CallOutcome.MISCONFIGURED, note)
    if status == 408:
        return CallFailed(CallOutcome.TIMEOUT, note)
    if 400 <= status < 500:
        return CallFailed(CallOutcome.REFUSED, note)
    return CallFailed(CallOutcome.ERROR, note, retry_after)
