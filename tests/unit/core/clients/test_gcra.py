"""GCRA: the limit and burst are never exceeded, nothing of them is wasted, and the reported waits are correct."""

from hypothesis import given
from hypothesis import strategies as st

from imago.core.clients.gcra import MINUTE, SECOND, Rate, arrival, verdict

RATES = st.builds(Rate, st.integers(1, 10_000_000), st.integers(1, 10_000))


@given(rate=RATES, steps=st.lists(st.integers(0, 10 * SECOND), max_size=200))
def test_no_window_has_more_requests_than_the_limit_and_a_burst(rate: Rate, steps: list[int]) -> None:
    now, tat, allowed = 0, None, []
    for step in steps:
        now += step
        after = arrival(tat, now, rate)
        if after is not None:
            tat = after
            allowed.append(now)
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            most = rate.burst + (allowed[last] - allowed[first]) / rate.interval
            assert last - first + 1 <= most + 1e-9


@given(rate=RATES)
def test_a_burst_is_allowed_together_and_then_one_request_per_interval(rate: Rate) -> None:
    burst = min(rate.burst, 500)
    rate = Rate(rate.requests_per_minute, burst)
    tat = None
    for _ in range(burst):
        tat = arrival(tat, 0, rate)
        assert tat is not None
    assert arrival(tat, 0, rate) is None
    assert arrival(tat, rate.interval - 1, rate) is None
    assert arrival(tat, rate.interval, rate) is not None


@given(rate=RATES, tat=st.integers(0, 100 * MINUTE))
def test_a_request_after_the_reported_wait_is_allowed(rate: Rate, tat: int) -> None:
    if arrival(tat, 0, rate) is not None:
        return
    wait = verdict(tat, rate, allowed=False).retry_after
    assert wait > 0
    assert arrival(tat, round(wait * SECOND), rate) is not None


@given(rate=RATES, now=st.integers(0, MINUTE), tat=st.one_of(st.none(), st.integers(0, 2 * MINUTE)))
def test_the_remaining_requests_are_really_allowed(rate: Rate, now: int, tat: int | None) -> None:
    after = arrival(tat, now, rate)
    if after is None:
        return
    reported = verdict(after - now, rate, allowed=True)
    assert 0 <= reported.remaining < rate.burst
    assert (
        arrival(after + rate.interval * max(0, reported.remaining - 1), now, rate) is not None
        or reported.remaining == 0
    )
    assert arrival(after + rate.interval * reported.remaining, now, rate) is None
