"""Rate limits: the generic cell rate algorithm (GCRA, ITU-T I.371), whose state is a single number.

That number is the theoretical arrival time (TAT): when the latest request would have arrived if all requests so far had
arrived evenly spaced. A request is allowed if its TAT is at most one burst ahead of now. All times are in microseconds.
"""

import math
from dataclasses import dataclass
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND


@dataclass(frozen=True)
class Rate:
    """Requests per minute, and how many of them may arrive together."""

    requests_per_minute: int
    burst: int

    @property
    def interval(self) -> int:
        """Microseconds between two requests, rounded up so that the rate is never exceeded."""
        return math.ceil(MINUTE / self.requests_per_minute)

    @property
    def tolerance(self) -> int:
        """How far the TAT may be ahead of now, in microseconds."""
        return self.burst * self.interval


@dataclass(frozen=True)
class Verdict:
    """Whether a request is allowed, and what is left of its rate.

    `remaining` requests are allowed now, and all `limit` again in `reset` seconds. `retry_after` is in seconds, 0 for
    an allowed request.
    """

    allowed: bool
    limit: int
    remaining: int
    reset: float
    retry_after: float = 0.0


def arrival(tat: int | None, now: int, rate: Rate) -> int | None:
    """Return the new TAT of a request that arrives now, or None if it arrives too early."""
    after = max(tat if tat is not None else now, now) + rate.interval
    return after if after - now <= rate.tolerance else None


def verdict(ahead: int, rate: Rate, *, allowed: bool) -> Verdict:
    """Return the verdict for a request after which the TAT is `ahead` microseconds ahead of now."""
    left = max(0, rate.tolerance - max(ahead, 0)) // rate.interval
    wait = 0.0 if allowed else max(0, ahead + rate.interval - rate.tolerance) / SECOND
    return Verdict(allowed, rate.burst, left if allowed else 0, max(ahead, 0) / SECOND, wait)


class Rates(Protocol):
    """Counts the requests of many subjects."""

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Count one request of a subject if its rate allows it."""
        ...
