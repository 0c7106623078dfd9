"""Request rates: the generic cell rate algorithm (GCRA, ITU-T I.371), with all its state in one number.

That number is the theoretical arrival time (TAT): when the requests taken so far would have come, had they come evenly.
A request is taken where its TAT lies at most a burst ahead of now. All times are in microseconds.
"""

import math
from dataclasses import dataclass
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND


@dataclass(frozen=True)
class Rate:
    """So many requests a minute, of which so many may come at once."""

    requests_per_minute: int
    burst: int

    @property
    def interval(self) -> int:
        """Microseconds between two requests, rounded up so that the rate is never passed."""
        return math.ceil(MINUTE / self.requests_per_minute)

    @property
    def tolerance(self) -> int:
        """How far ahead of now the TAT may lie, in microseconds."""
        return self.burst * self.interval


@dataclass(frozen=True)
class Verdict:
    """Whether a request is taken, how many more would be now, and in how many seconds all would be again.

    `retry_after` is in seconds, 0 for one that was taken.
    """

    allowed: bool
    limit: int
    remaining: int
    reset: float
    retry_after: float = 0.0


def arrival(tat: int | None, now: int, rate: Rate) -> int | None:
    """Return the new TAT of a request that arrives now, or None where it comes too early."""
    after = max(tat if tat is not None else now, now) + rate.interval
    return after if after - now <= rate.tolerance else None


def verdict(ahead: int, rate: Rate, *, allowed: bool) -> Verdict:
    """Return what to tell, given how far the TAT lies ahead of now after the request."""
    left = max(0, rate.tolerance - max(ahead, 0)) // rate.interval
    wait = 0.0 if allowed else max(0, ahead + rate.interval - rate.tolerance) / SECOND
    return Verdict(allowed, rate.burst, left if allowed else 0, max(ahead, 0) / SECOND, wait)


class Rates(Protocol):
    """Keeps the state of every subject."""

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Take one request of a subject, or refuse it."""
        ...
