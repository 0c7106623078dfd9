"""The pace of a peer that others wait for: how long it may be idle, and how slow it may be on average."""

from dataclasses import dataclass

# The minimum rate is not enforced during the first seconds of waiting.
RATE_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class PaceLimits:
    """The longest idle time in seconds, and the average rate in bytes per second after `grace` seconds."""

    idle: float
    min_rate: int
    grace: float = RATE_GRACE_SECONDS


class Pace:
    """Measures one wait for a peer, from `now` on, when it had moved `moved` bytes."""

    def __init__(self, limits: PaceLimits, *, now: float, moved: int) -> None:
        self._limits = limits
        self._began = self._moved_at = now
        self._first = self._moved = moved

    def too_slow(self, *, now: float, moved: int) -> bool:
        """Return whether the peer, which has moved `moved` bytes by now, is too slow."""
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        waited = now - self._began
        if now - self._moved_at > self._limits.idle:
            return True
        return waited > self._limits.grace and (moved - self._first) / waited < self._limits.min_rate
