"""GCRA: never over limit + burst, nothing of the limit wasted, and waits that are true."""

from hypothesis import given
from hypothesis import strategies as st

from imago.core.clients.gcra import MINUTE, SECOND, Rate, arrival, verdict

RATES = st.builds(Rate, st.integers(1, 10_000_000), st.integers(1, 10_000))


@given(rate=RATES, steps=st.lists(st.integers(0, 10 * SECOND), max_size=200))
def test_no_window_holds_more_than_the_limit_and_a_burst(rate: Rate, steps: list[int]) -> None:
    now, tat, taken = 0, None, []
    for step in steps:
        now += step
        after = arrival(tat, now, rate)
        if after is not None:
            tat = after
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            most = rate.burst + (taken[last] - taken[first]) / rate.interval
            assert last - first + 1 <= most + 1e-9


@given(rate=RATES)
def test_a_burst_is_taken_at_once_and_then_one_an_interval(rate: Rate) -> None:
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
def test_who_waits_as_long_as_told_is_taken(rate: Rate, tat: int) -> None:
    if arrival(tat, 0, rate) is not None:
        return
    wait = verdict(tat, rate, allowed=False).retry_after
    assert wait > 0
    assert arrival(tat, round(wait * SECOND), rate) is not None


@given(rate=RATES, now=st.integers(0, MINUTE), tat=st.one_of(st.none(), st.integers(0, 2 * MINUTE)))
def test_what_remains_can_really_be_asked(rate: Rate, now: int, tat: int | None) -> None:
    after = arrival(tat, now, rate)
    if after is None:
        return
    told = verdict(after - now, rate, allowed=True)
    assert 0 <= told.remaining < rate.burst
    assert arrival(after + rate.interval * max(0, told.remaining - 1), now, rate) is not None or told.remaining == 0
    assert arrival(after + rate.interval * told.remaining, now, rate) is None
