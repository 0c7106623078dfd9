"""The circuit breaker of an AI provider as a pure state machine; all times are seconds since the epoch.

A closed breaker allows every call and counts consecutive failures. It opens when the provider asks for a pause or fails
too often, and no calls are made for some time. Then it allows one call at a time as a probe; a successful probe closes
the breaker, a failed one opens it for longer.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

# Consecutive failures that open the breaker, and the time after which failures no longer count as consecutive.
THRESHOLD = 5
WINDOW_SECONDS = 120.0

# The first pause and the longest, unless the provider names one; each failed probe doubles it.
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0

# While a probe is in progress, other callers check again after this time at most.
PROBE_WAIT_SECONDS = 15.0


@dataclass(frozen=True)
class BreakerState:
    """The shared state of a provider's breaker; the default is closed."""

    failures: int = 0
    failed_at: float = 0.0
    open_until: float = 0.0
    trips: int = 0
    probe_until: float = 0.0

    @property
    def tripped(self) -> bool:
        """Whether the breaker opened and has not closed since."""
        return self.open_until > 0

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return {"v": 1, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> "BreakerState":
        """Read the stored form; invalid data and other versions give a closed breaker."""
        try:
            if data["v"] != 1:
                return cls()
            return cls(
                int(data["failures"]),
                float(data["failed_at"]),
                float(data["open_until"]),
                int(data["trips"]),
                float(data["probe_until"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return cls()


def seconds_to_wait(state: BreakerState, now: float) -> float:
    """Return how long not to call the provider; 0 if it may be called or probed (`with_probe`)."""
    if not state.tripped:
        return 0.0
    if now < state.open_until:
        return state.open_until - now
    return max(0.0, min(state.probe_until - now, PROBE_WAIT_SECONDS))


def with_probe(state: BreakerState, now: float, *, seconds: float) -> BreakerState:
    """Start a probe that takes at most this long; a closed breaker needs none."""
    return replace(state, probe_until=now + seconds) if state.tripped else state


def without_probe(state: BreakerState, now: float) -> BreakerState:
    """End an inconclusive probe, so that another one can start."""
    return replace(state, probe_until=0.0) if state.tripped and now >= state.open_until else state


def after_success(state: BreakerState, now: float) -> BreakerState:
    """Close the breaker and reset its count; a call that started before the breaker opened does not close it."""
    if state.tripped and now < state.open_until:
        return state
    return BreakerState()


def after_failure(state: BreakerState, now: float, *, retry_after: float | None = None) -> BreakerState:
    """Count a failure; open the breaker at the threshold, or if the provider asks for a pause."""
    if state.tripped and now < state.open_until:
        # Calls that were in progress when the breaker opened fail too; only a longer pause matters.
        return replace(state, open_until=max(state.open_until, now + (retry_after or 0.0)))
    failures = state.failures + 1 if now - state.failed_at < WINDOW_SECONDS else 1
    if retry_after is None and not state.tripped and failures < THRESHOLD:
        return replace(state, failures=failures, failed_at=now)
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(state.trips, 10), LONGEST_PAUSE_SECONDS)
    if retry_after is not None:
        # The first time, the provider's own pause counts; one that keeps refusing is probed less and less often.
        pause = max(retry_after, pause if state.trips else 0.0)
    return BreakerState(failed_at=now, open_until=now + pause, trips=state.trips + 1)
