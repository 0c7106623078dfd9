"""Shares: one holder alone gets most, several get equal parts, and a newcomer is never kept out by a greedy one."""

import asyncio
from collections.abc import Awaitable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imago.runtime.shares import FairShares, ShareExhausted, Shares

TOTAL = 100
LONG = 30.0


def filled(shares: Shares, *holders: str) -> dict[str, int]:
    """Let holders take one after the other until none can take more; return what each has."""
    while any(shares.fits(holder, 1) for holder in holders):
        for holder in holders:
            if shares.fits(holder, 1):
                shares.take(holder, 1)
    return {holder: shares.held(holder) for holder in holders}


def test_one_holder_alone_gets_most_of_the_total() -> None:
    assert filled(Shares(TOTAL), "a") == {"a": 66}


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_several_holders_get_equal_parts_and_something_is_left(count: int) -> None:
    shares = Shares(TOTAL)
    parts = filled(shares, *map(str, range(count))).values()
    assert max(parts) - min(parts) <= 1
    assert shares.used < TOTAL


def test_a_holder_with_nothing_gets_what_is_free() -> None:
    shares = Shares(TOTAL)
    filled(shares, "greedy")
    assert shares.fits("newcomer", 34)
    assert not shares.fits("newcomer", 35)


def test_what_is_larger_than_the_total_is_served_when_nothing_else_is() -> None:
    shares = Shares(TOTAL)
    assert shares.fits("a", 2 * TOTAL)
    shares.take("b", 1)
    assert not shares.fits("a", 2 * TOTAL)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60))))
def test_the_total_is_never_exceeded(takes: list[tuple[str, int]]) -> None:
    shares, taken = Shares(TOTAL), []
    for holder, size in takes:
        if shares.fits(holder, size):
            shares.take(holder, size)
            taken.append((holder, size))
        assert shares.used <= TOTAL
    for holder, size in taken:
        shares.give_back(holder, size)
    assert shares.used == 0
    assert not any(shares.held(holder) for holder in "abc")


def test_a_refusal_says_whose_limit_it_is() -> None:
    shares = FairShares(TOTAL)
    with shares.hold_now("a", 60):
        with pytest.raises(ShareExhausted) as own, shares.hold_now("a", 10):
            pass
        assert own.value.of_holder
        with pytest.raises(ShareExhausted) as all_in_use, shares.hold_now("b", 50):
            pass
        assert not all_in_use.value.of_holder
    assert shares.used == 0


class Held:
    """Coroutines that hold a share until they are told to end."""

    def __init__(self, shares: FairShares) -> None:
        self.shares = shares
        self.order: list[str] = []
        self.end: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, name: str, size: int) -> None:
        """Start one whose holder is the first letter of its name, and let it run until it holds or waits."""
        self.end[name] = asyncio.Event()
        self.tasks.append(asyncio.create_task(self._hold(name, size)))
        await asyncio.sleep(0)

    async def stop(self, name: str) -> None:
        self.end[name].set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def _hold(self, name: str, size: int) -> None:
        async with self.shares.hold(name[0], size, timeout=LONG):
            self.order.append(name)
            await self.end[name].wait()

    async def close(self) -> None:
        for event in self.end.values():
            event.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_waiting_holders_are_served_by_what_they_have_and_then_in_order() -> None:
    held = Held(FairShares(TOTAL))
    await held.start("a1", 60)
    await held.start("b1", 35)
    await held.start("a2", 10)
    await held.start("c1", 20)
    await held.start("c2", 5)
    assert held.order == ["a1", "b1"]
    await held.stop("b1")
    assert held.order == ["a1", "b1", "c1", "c2"], "the holder with the least is first"
    await held.stop("a1")
    assert held.order[-1] == "a2"
    await held.close()
    assert held.shares.used == 0


async def test_a_large_newcomer_is_not_starved_by_small_requests() -> None:
    held = Held(FairShares(TOTAL))
    await held.start("a1", 30)
    await held.start("a2", 20)
    await held.start("b1", 60)
    await held.start("a3", 1)
    assert held.order == ["a1", "a2"], "a3 would fit, but b waits and has nothing"
    await held.stop("a2")
    assert held.order[2] == "b1"
    await held.close()


async def test_a_timeout_withdraws_the_request_and_lets_others_through() -> None:
    shares = FairShares(TOTAL)
    with shares.hold_now("a", 50):
        waiting = asyncio.create_task(_held(shares, "b", 60, timeout=0.05))
        await asyncio.sleep(0)
        behind = asyncio.create_task(_held(shares, "a", 1, timeout=LONG))
        with pytest.raises(ShareExhausted):
            await waiting
        await behind
    assert shares.used == 0


async def test_a_cancelled_request_gives_back_what_it_was_granted() -> None:
    shares = FairShares(TOTAL)
    with shares.hold_now("a", TOTAL):
        waiting = asyncio.create_task(_held(shares, "b", 10, timeout=LONG))
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert shares.used == 0


async def test_only_so_many_wait() -> None:
    shares = FairShares(TOTAL, max_waiting=1)
    with shares.hold_now("a", TOTAL):
        waiting = asyncio.create_task(_held(shares, "b", 1, timeout=LONG))
        await asyncio.sleep(0)
        with pytest.raises(ShareExhausted):
            await _held(shares, "c", 1, timeout=LONG)
    await waiting


def _held(shares: FairShares, holder: str, size: int, *, timeout: float) -> Awaitable[None]:
    async def hold() -> None:
        async with shares.hold(holder, size, timeout=timeout):
            pass

    return hold()


async def test_a_waiter_that_gives_up_when_its_turn_comes_is_passed_over() -> None:
    shares = FairShares(1)
    release = asyncio.Event()

    async def hold(holder: str, until: asyncio.Event) -> None:
        async with shares.hold(holder, timeout=LONG):
            await until.wait()

    first = asyncio.create_task(hold("a", release))
    await asyncio.sleep(0)
    impatient = asyncio.create_task(hold("b", asyncio.Event()))
    patient = asyncio.create_task(hold("c", release))
    await asyncio.sleep(0)
    # Both happen in one step of the loop: the share is returned, and its next holder no longer wants it.
    release.set()
    impatient.cancel()
    await asyncio.gather(first, patient)
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert shares.used == 0
