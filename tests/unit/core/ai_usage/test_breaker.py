"""The breaker's states, without a clock or a server."""

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


def test_it_opens_at_its_threshold_and_not_before() -> None:
    assert seconds_to_wait(failing(THRESHOLD - 1), 1000) == 0
    assert seconds_to_wait(failing(THRESHOLD), 1000) == 10


def test_a_success_and_a_long_pause_end_a_row_of_failures() -> None:
    assert after_success(failing(THRESHOLD - 1), 1000) == CLOSED
    assert not after_failure(failing(THRESHOLD - 1), 2000).tripped


def test_a_pause_that_is_asked_for_opens_it_at_once_and_for_exactly_so_long() -> None:
    state = after_failure(CLOSED, 1000, retry_after=37)
    assert seconds_to_wait(state, 1000) == 37
    assert seconds_to_wait(state, 1036.5) == 0.5


def test_those_who_fail_together_open_it_once() -> None:
    state = after_failure(CLOSED, 1000, retry_after=10)
    for _ in range(20):
        state = after_failure(state, 1001, retry_after=5)
    assert (state.trips, seconds_to_wait(state, 1001)) == (1, 9)
    assert seconds_to_wait(after_failure(state, 1001, retry_after=60), 1001) == 60


def test_one_at_a_time_tries_whether_the_provider_is_back() -> None:
    state = after_failure(CLOSED, 1000, retry_after=10)
    assert seconds_to_wait(state, 1010) == 0
    state = with_probe(state, 1010, seconds=100)
    assert seconds_to_wait(state, 1010) == PROBE_WAIT_SECONDS
    assert seconds_to_wait(state, 1109) == 1
    # The one that tried died without a word.
    assert seconds_to_wait(state, 1110) == 0
    assert seconds_to_wait(without_probe(state, 1011), 1011) == 0
    assert after_success(state, 1012) == CLOSED


def test_each_try_that_fails_keeps_it_open_for_longer_up_to_a_limit() -> None:
    state, now, pauses = failing(THRESHOLD), 1000.0, []
    for _ in range(9):
        pauses.append(seconds_to_wait(state, now))
        now = state.open_until
        state = after_failure(with_probe(state, now, seconds=60), now)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (10, 20, LONGEST_PAUSE_SECONDS)


def test_a_call_that_began_before_it_opened_doesnt_close_it() -> None:
    state = after_failure(CLOSED, 1000, retry_after=10)
    assert after_success(state, 1005) == state


@pytest.mark.parametrize("data", [None, 5, [], {}, {"v": 2}, {"v": 1, "failures": "x"}, {"v": 1}])
def test_what_cant_be_read_is_a_closed_breaker(data: object) -> None:
    assert BreakerState.from_json(data) == CLOSED
    state = after_failure(CLOSED, 1000, retry_after=10)
    assert BreakerState.from_json(state.to_json()) == state
