"""Claims: whether a worker may start on a message, and what becomes of a stage whose try failed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from imago.core.jobs.failures import LONGEST_NAK, PermanentFailure, StageFailure, Throttled, backoff
from imago.core.jobs.stages import OPEN_STATUSES, StageStatus


@dataclass(frozen=True)
class StageState:
    """What decides about a stage: its row, as the database has it."""

    status: StageStatus
    run: int
    attempts: int
    lease_until: datetime | None = None
    due_at: datetime | None = None


@dataclass(frozen=True)
class Start:
    """Begin the work."""


@dataclass(frozen=True)
class Drop:
    """Nothing to do: the result is there, or the run is over; acknowledge the message."""

    reason: str


@dataclass(frozen=True)
class Wait:
    """Not now: ask for the message again after `delay`."""

    delay: timedelta


@dataclass(frozen=True)
class GiveUp:
    """All tries were taken by workers that died over it: dead, without starting again."""


ClaimDecision = Start | Drop | Wait | GiveUp


def decide_claim(state: StageState, *, run: int, now: datetime, max_tries: int) -> ClaimDecision:
    """Decide what a worker does with a message for `run`, from the stage's row as it stands under the image's lock."""
    if run != state.run:
        return Drop("another run")
    if state.status not in OPEN_STATUSES:
        return Drop("ended")
    if state.status is StageStatus.RUNNING and state.lease_until is not None and state.lease_until > now:
        # Another worker is at it; should it die, this message is what brings the work back.
        return Wait(state.lease_until - now)
    if state.due_at is not None and state.due_at > now:
        remaining = state.due_at - now
        # A longer wait lies in the outbox, which publishes a message of its own.
        return Wait(remaining) if remaining <= LONGEST_NAK else Drop("parked")
    if state.attempts >= max_tries:
        return GiveUp()
    return Start()


@dataclass(frozen=True)
class RetryInStream:
    """Try again after a short wait: a delayed nak."""

    delay: timedelta


@dataclass(frozen=True)
class Park:
    """Try again after a long wait, spent in the outbox; `counted` tells whether the try counts."""

    delay: timedelta
    counted: bool


@dataclass(frozen=True)
class Die:
    """No more tries."""


FailureDecision = RetryInStream | Park | Die


def decide_failure(
    failure: StageFailure, *, attempts: int, max_tries: int, base: timedelta, cap: timedelta
) -> FailureDecision:
    """Decide what follows a failed try; `attempts` counts the try that failed."""
    if isinstance(failure, Throttled):
        # Always outside the stream: however short the provider's delay is, it isn't lag.
        return Park(failure.delay, counted=False)
    if isinstance(failure, PermanentFailure) or attempts >= max_tries:
        return Die()
    delay = backoff(attempts, base=base, cap=cap)
    return RetryInStream(delay) if delay <= LONGEST_NAK else Park(delay, counted=True)
