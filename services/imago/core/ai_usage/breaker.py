"""The circuit breaker of a provider as a state and its transitions, without I/O; all times are seconds since the epoch.

Closed, it lets every call through and counts failures in a row. A provider that asks for a pause, or fails too often,
opens it: nobody calls for a while. When that is over, one call at a time is let through to try; its success closes the
breaker, its failure opens it for longer.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

# Failures in a row that open the breaker, and the pause after which they no longer are in a row.
THRESHOLD = 5
WINDOW_SECONDS = 120.0

# The first pause and the longest, where the provider names none; each failed try doubles it.
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0

# While one call tries whether the provider is back, the others ask again after this at most.
PROBE_WAIT_SECONDS = 15.0


@dataclass(frozen=True)
class BreakerState:
    """What all processes know of a provider; as it is at first, it is closed."""

    failures: int = 0
    failed_at: float = 0.0
    open_until: float = 0.0
    trips: int = 0
    probe_until: float = 0.0

    @property
    def tripped(self) -> bool:
        """Whether it was opened and not closed since."""
        return self.open_until > 0

    def to_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"v": 1, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> "BreakerState":
        """Read what is stored; what can't be read, or is another version's, is a closed breaker."""
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
    """Return for how long the provider is to be left alone; 0 where it may be called, or tried (`with_probe`)."""
    if not state.tripped:
        return 0.0
    if now < state.open_until:
        return state.open_until - now
    return max(0.0, min(state.probe_until - now, PROBE_WAIT_SECONDS))


def with_probe(state: BreakerState, now: float, *, seconds: float) -> BreakerState:
    """Note that a call tries the provider, for at most so long; a closed breaker needs no tries."""
    return replace(state, probe_until=now + seconds) if state.tripped else state


def without_probe(state: BreakerState, now: float) -> BreakerState:
    """Note that a try ended without telling anything, so that another may be made."""
    return replace(state, probe_until=0.0) if state.tripped and now >= state.open_until else state


def after_success(state: BreakerState, now: float) -> BreakerState:
    """Close the breaker, or begin to count anew; a call that began before it opened doesn't close it."""
    if state.tripped and now < state.open_until:
        return state
    return BreakerState()


def after_failure(state: BreakerState, now: float, *, retry_after: float | None = None) -> BreakerState:
    """Count a failure, and open the breaker where it is one too many, or where the provider asks for a pause."""
    if state.tripped and now < state.open_until:
        # The calls that were under way when it opened fail together; only a longer pause is news.
        return replace(state, open_until=max(state.open_until, now + (retry_after or 0.0)))
    failures = state.failures + 1 if now - state.failed_at < WINDOW_SECONDS else 1
    if retry_after is None and not state.tripped and failures < THRESHOLD:
        return replace(state, failures=failures, failed_at=now)
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(state.trips, 10), LONGEST_PAUSE_SECONDS)
    if retry_after is not None:
        # At first the provider's own word counts; one that refuses again and again is asked ever less often.
        pause = max(retry_after, pause if state.trips else 0.0)
    return BreakerState(failed_at=now, open_until=now + pause, trips=state.trips + 1)
