"""Decisions about a stage: whether a worker may claim it, and what follows a failed attempt."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from imago.core.jobs.failures import PermanentFailure, StageFailure, Throttled, backoff
from imago.core.jobs.stages import OPEN_STATUSES, StageStatus

# Up to this delay a message stays in its stream (a nak with a delay). With a longer one the stage is parked in the
# outbox, because a message after a nak counts as consumer lag, and KEDA would start workers for it.
MAX_DELAY_IN_STREAM = timedelta(seconds=30)


@dataclass(frozen=True)
class StageState:
    """The columns of a stage's row that decide about a claim."""

    status: StageStatus
    run: int
    attempts: int
    lease_until: datetime | None = None
    due_at: datetime | None = None


@dataclass(frozen=True)
class Start:
    """Claim the run."""


@dataclass(frozen=True)
class Drop:
    """Acknowledge the message: its run has ended or was replaced."""

    reason: str


@dataclass(frozen=True)
class Wait:
    """Redeliver the message after `delay`."""

    delay: timedelta


@dataclass(frozen=True)
class GiveUp:
    """Dead-letter the stage: every attempt was claimed by a worker that died."""


ClaimDecision = Start | Drop | Wait | GiveUp


def decide_claim(state: StageState, *, run: int, now: datetime, max_tries: int) -> ClaimDecision:
    """Decide what a worker does with a message for `run`, from the stage's row under the image's lock."""
    if run != state.run:
        return Drop("another run")
    if state.status not in OPEN_STATUSES:
        return Drop("ended")
    if state.status is StageStatus.RUNNING and state.lease_until is not None and state.lease_until > now:
        # Another worker holds the claim. If it dies, this message starts the next attempt.
        return Wait(state.lease_until - now)
    if state.due_at is not None and state.due_at > now:
        remaining = state.due_at - now
        # A parked stage gets another message from the outbox when it is due.
        return Wait(remaining) if remaining <= MAX_DELAY_IN_STREAM else Drop("parked")
    if state.attempts >= max_tries:
        return GiveUp()
    return Start()


@dataclass(frozen=True)
class RetryInStream:
    """Retry after a short delay: nak the message."""

    delay: timedelta


@dataclass(frozen=True)
class Park:
    """Retry after a delay in the outbox; `counted` is False for an attempt that does not count."""

    delay: timedelta
    counted: bool


@dataclass(frozen=True)
class Die:
    """Dead-letter the stage."""


FailureDecision = RetryInStream | Park | Die


def decide_failure(
    failure: StageFailure, *, attempts: int, max_tries: int, base: timedelta, cap: timedelta
) -> FailureDecision:
    """Decide what follows a failed attempt; `attempts` includes it."""
    if isinstance(failure, Throttled):
        # Parked even for a short delay: waiting for a provider is not lag.
        return Park(failure.delay, counted=False)
    if isinstance(failure, PermanentFailure) or attempts >= max_tries:
        return Die()
    delay = backoff(attempts, base=base, cap=cap)
    return RetryInStream(delay) if delay <= MAX_DELAY_IN_STREAM else Park(delay, counted=True)
