"""What is asked for while a batch is under way makes the next one; one that fails doesn't take the others along."""

import asyncio
from collections.abc import Sequence

import pytest

from imago.core import batching as batches
from imago.core.batching import Batches


class Away(Exception):
    """Concerns everybody."""


class Doubling:
    """Doubles numbers, a batch at a time, when it is let; refuses negative ones, and fails over 13."""

    def __init__(self, *, largest: int = 10) -> None:
        self.batches: list[list[int]] = []
        self.going = asyncio.Event()
        self.away = False
        self.all = Batches(self._double, largest=largest, common=(Away,))

    async def _double(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        await self.going.wait()
        if self.away:
            raise Away
        if 13 in numbers:
            raise ZeroDivisionError
        return [ValueError(f"{number} is negative") if number < 0 else 2 * number for number in numbers]


async def test_one_alone_goes_at_once_and_the_rest_together() -> None:
    doubling = Doubling(largest=3)
    asked = [doubling.all.ask(0)]
    await asyncio.sleep(0)
    asked += [doubling.all.ask(number) for number in range(1, 6)]
    doubling.going.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10]
    assert doubling.batches == [[0], [1, 2, 3], [4, 5]]
    assert await doubling.all.ask(21) == 42, "it goes on when it had nothing to do"


async def test_each_gets_its_own_exception() -> None:
    doubling = Doubling()
    doubling.going.set()
    good, bad = doubling.all.ask(1), doubling.all.ask(-1)
    assert await good == 2
    with pytest.raises(ValueError, match="-1 is negative"):
        await bad


async def test_one_that_breaks_its_batch_is_found_by_trying_each_alone() -> None:
    doubling = Doubling()
    doubling.going.set()
    asked = [doubling.all.ask(number) for number in (1, 13, 2)]
    assert await asked[0] == 2
    with pytest.raises(ZeroDivisionError):
        await asked[1]
    assert await asked[2] == 4
    assert doubling.batches == [[1, 13, 2], [1], [13], [2]]


async def test_what_concerns_everybody_is_not_tried_again() -> None:
    doubling = Doubling()
    doubling.away = True
    doubling.going.set()
    answers = await asyncio.gather(*(doubling.all.ask(number) for number in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Away] * 3
    assert len(doubling.batches) == 1


async def test_who_gave_up_is_left_out_or_not_answered() -> None:
    doubling = Doubling()
    under_way, waiting = doubling.all.ask(1), None
    await asyncio.sleep(0)
    waiting, other = doubling.all.ask(2), doubling.all.ask(3)
    under_way.cancel()
    waiting.cancel()
    doubling.going.set()
    assert await other == 6
    assert doubling.batches == [[1], [3]]


async def test_what_has_another_key_waits_for_nothing() -> None:
    done: list[list[str]] = []
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def work(words: Sequence[str]) -> list[str]:
        await gates[words[0][0]].wait()
        done.append(list(words))
        return list(words)

    batches = Batches(work, largest=10, key=lambda word: word[0])
    slow, quick = batches.ask("a1"), [batches.ask("b1"), batches.ask("b2")]
    gates["b"].set()
    await asyncio.gather(*quick)
    assert not slow.done()
    gates["a"].set()
    await slow
    assert done == [["b1", "b2"], ["a1"]]


async def test_a_batch_that_is_cancelled_leaves_nobody_waiting() -> None:
    async def work(numbers: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.1)
        raise asyncio.CancelledError

    doubling = Batches(work, largest=1)
    asked = [doubling.ask(1), doubling.ask(2)]
    _, left = await asyncio.wait(asked, timeout=1)
    assert not left, "they wait for ever"


async def test_who_is_cancelled_while_its_batch_fails_is_not_tried_alone() -> None:
    tried: list[list[int]] = []
    going = asyncio.Event()

    async def work(numbers: Sequence[int]) -> list[int]:
        tried.append(list(numbers))
        await going.wait()
        if len(numbers) > 1:
            raise ZeroDivisionError
        return list(numbers)

    doubling = Batches(work, largest=3)
    asked = [doubling.ask(number) for number in range(3)]
    await asyncio.sleep(0.01)
    asked[1].cancel()
    going.set()
    await asyncio.wait(asked)
    assert tried == [[0, 1, 2], [0], [2]]


async def test_what_comes_after_a_batch_that_hangs_does_not_wait_for_it() -> None:
    hanging = asyncio.Event()

    async def work(numbers: Sequence[int]) -> list[int]:
        if 0 in numbers:
            await hanging.wait()
        return list(numbers)

    all_numbers = Batches(work, largest=3)
    first = all_numbers.ask(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        assert await asyncio.gather(*(all_numbers.ask(number) for number in (1, 2, 3, 4))) == [1, 2, 3, 4]
        assert await all_numbers.ask(5) == 5
    assert not first.done()
    hanging.set()
    assert await first == 0


async def test_batches_that_are_all_late_take_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds a connection, and the pool is everybody's."""
    monkeypatch.setattr(batches, "PATIENCE_SECONDS", 0.01)
    going, under_way, most = asyncio.Event(), 0, 0

    async def work(numbers: Sequence[int]) -> list[int]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await going.wait()
        under_way -= 1
        return list(numbers)

    late = Batches(work, largest=50)
    asked = []
    for number in range(20):
        asked.append(late.ask(number))
        await asyncio.sleep(0.02)
    assert most == under_way == batches.MOST_AT_ONCE
    going.set()
    assert await asyncio.gather(*asked) == list(range(20))
    assert await late.ask(20) == 20
