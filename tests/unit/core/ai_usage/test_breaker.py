"""The state machine of the circuit breaker."""

import pytest

from imago.core.ai_usage.breaker import (
    LONGEST_PAUSE_SECONDS,
    PROBE_WAIT_SECONDS,
    THRESHOLD,
    BreakerState,
    after_failure,
    after_success,
    seconds_to_wait,
    with_probe,
    without_probe,
)

CLOSED = BreakerState()


def failing(times: int, *, now: float = 1000.0) -> BreakerState:
    state = CLOSED
    for _ in range(times):
        state = after_failure(state, now)
    return state


def test_the_breaker_opens_at_its_threshold_and_not_before() -> None:
    assert seconds_to_wait(failing(THRESHOLD - 1), 1000) == 0
    assert seconds_to_wait(failing(THRESHOLD), 1000) == 10


def test_a_success_or_a_long_pause_resets_the_count_of_failures() -> None:
    assert after_success(failing(THRESHOLD - 1), 1000) == CLOSED
    assert not after_failure(failing(THRESHOLD - 1), 2000).tripped


def test_a_requested_pause_opens_the_breaker_immediately_and_for_exactly_that_long() -> None:
    state = after_failure(CLOSED, 1000, retry_after=37)
    assert seconds_to_wait(state, 1000) == 37
    assert seconds_to_wait(state, 1036.5) == 0.5


def test_concurrent_failures_open_the_breaker_once() -> None:
    state = after_failure(CLOSED, 1000, retry_after=10)
    for _ in range(20):
        state = after_failure(state, 1001, retry_after=5)
    assert (state.trips, seconds_to_wait(state, 1001)) == (1, 9)
    assert seconds_to_wait(after_failure(state, 1001, retry_after=60), 1001) == 60


def test_one_call_at_a_time_probes_the_provider() -> None:
    state = after_failure(CLOSED, 1000, retry_after=10)
    assert seconds_to_wait(state, 1010) == 0
    state = with_probe(state, 1010, seconds=100)
    assert seconds_to_wait(state, 1010) == PROBE_WAIT_SECONDS
    assert seconds_to_wait(state, 1109) == 1
    # The process of the probe died.
    assert seconds_to_wait(state, 1110) == 0
    assert seconds_to_wait(without_probe(state, 1011), 1011) == 0
    assert after_success(state, 1012) == CLOSED


def test_each_failed_probe_doubles_the_pause_up_to_a_limit() -> None:
    state, now, pauses = failing(THRESHOLD), 1000.0, []
    for _ in range(9):
        pauses.append(seconds_to_wait(state, now))
        now = state.open_until
        state = after_failure(with_probe(state, now, seconds=60), now)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (10, 20, LONGEST_PAUSE_SECONDS)


def test_a_call_that_started_before_the_breaker_opened_does_not_close_it() -> None:
    state = after_failure(CLOSED, 1000, retry_after=10)
    assert after_success(state, 1005) == state


@pytest.mark.parametrize("data", [None, 5, [], {}, {"v": 2}, {"v": 1, "failures": "x"}, {"v": 1}])
def test_unreadable_state_is_a_closed_breaker(data: object) -> None:
    assert BreakerState.from_json(data) == CLOSED
    state = after_failure(CLOSED, 1000, retry_after=10)
    assert BreakerState.from_json(state.to_json()) == state
