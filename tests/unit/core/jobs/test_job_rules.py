"""Decisions about claims and failed attempts."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.core.jobs.failures import PermanentFailure, StageFailure, Throttled, TransientFailure, backoff
from imago.core.jobs.rules import (
    Die,
    Drop,
    FailureDecision,
    GiveUp,
    Park,
    RetryInStream,
    StageState,
    Start,
    Wait,
    decide_claim,
    decide_failure,
)
from imago.core.jobs.stages import StageStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stage_state(
    status: StageStatus, *, run: int = 1, attempts: int = 0, lease: int | None = None, due: int | None = None
) -> StageState:
    def moment(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOW + timedelta(seconds=seconds)

    return StageState(status, run, attempts, moment(lease), moment(due))


@pytest.mark.parametrize(
    ("state", "run", "expected"),
    [
        (stage_state(StageStatus.PENDING), 1, Start()),
        (stage_state(StageStatus.PENDING, run=2), 1, Drop("another run")),
        (stage_state(StageStatus.DONE), 1, Drop("ended")),
        (stage_state(StageStatus.DEAD), 1, Drop("ended")),
        (stage_state(StageStatus.RUNNING, attempts=1, lease=7), 1, Wait(timedelta(seconds=7))),
        (stage_state(StageStatus.RUNNING, attempts=1, lease=-1), 1, Start()),
        (stage_state(StageStatus.RETRYING, attempts=1, due=9), 1, Wait(timedelta(seconds=9))),
        (stage_state(StageStatus.RETRYING, attempts=1, due=90), 1, Drop("parked")),
        (stage_state(StageStatus.RETRYING, attempts=1, due=-1), 1, Start()),
        (stage_state(StageStatus.RUNNING, attempts=3, lease=-1), 1, GiveUp()),
    ],
)
def test_a_worker_starts_waits_drops_or_gives_up(state: StageState, run: int, expected: object) -> None:
    assert decide_claim(state, run=run, now=NOW, max_tries=3) == expected


def decide(failure: StageFailure, *, attempts: int) -> FailureDecision:
    base, cap = timedelta(seconds=1), timedelta(seconds=300)
    return decide_failure(failure, attempts=attempts, max_tries=3, base=base, cap=cap)


def test_a_permanent_failure_kills_the_stage_on_its_first_attempt() -> None:
    assert decide(PermanentFailure("a", "b"), attempts=1) == Die()


def test_a_transient_failure_kills_the_stage_only_on_its_last_attempt() -> None:
    assert isinstance(decide(TransientFailure("a", "b"), attempts=2), RetryInStream | Park)
    assert decide(TransientFailure("a", "b"), attempts=3) == Die()


def test_a_throttled_attempt_is_parked_for_the_providers_delay_and_does_not_count() -> None:
    delay = timedelta(seconds=2)
    assert decide(Throttled("a", "b", delay), attempts=3) == Park(delay, counted=False)


def test_a_retry_is_parked_when_its_delay_would_count_as_lag_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def after(seconds: float) -> FailureDecision:
        monkeypatch.setattr(random, "uniform", lambda low, high: seconds)
        return decide(TransientFailure("a", "b"), attempts=1)

    assert after(29) == RetryInStream(timedelta(seconds=29))
    assert after(31) == Park(timedelta(seconds=31), counted=True)


@given(st.integers(1, 100))
def test_backoff_grows_up_to_its_cap(attempt: int) -> None:
    cap = timedelta(seconds=60)
    delay = backoff(attempt, base=timedelta(seconds=2), cap=cap)
    assert timedelta(0) <= delay <= min(cap, timedelta(seconds=2) * 2 ** min(attempt - 1, 32))
