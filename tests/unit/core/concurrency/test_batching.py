"""Concurrent requests share batches, and a failing request does not affect the others."""

import asyncio
from collections.abc import Sequence

import pytest

from imago.core.concurrency.batching import BatchExecutor


class Unavailable(Exception):
    """Concerns every request of a batch."""


class Doubler:
    """Doubles numbers in batches once it is started; rejects negative numbers and fails on 13."""

    def __init__(self, *, max_size: int = 10) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Event()
        self.unavailable = False
        self.executor = BatchExecutor(self._double, max_size=max_size, not_retried=(Unavailable,))

    async def _double(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        await self.started.wait()
        if self.unavailable:
            raise Unavailable
        if 13 in numbers:
            raise ZeroDivisionError
        return [ValueError(f"{number} is negative") if number < 0 else 2 * number for number in numbers]


async def test_a_single_request_runs_immediately_and_later_ones_form_batches() -> None:
    doubler = Doubler(max_size=3)
    futures = [doubler.executor.submit(0)]
    await asyncio.sleep(0)
    futures += [doubler.executor.submit(number) for number in range(1, 6)]
    doubler.started.set()
    assert await asyncio.gather(*futures) == [0, 2, 4, 6, 8, 10]
    assert doubler.batches == [[0], [1, 2, 3], [4, 5]]
    assert await doubler.executor.submit(21) == 42, "an idle executor accepts requests again"


async def test_a_request_gets_its_own_exception() -> None:
    doubler = Doubler()
    doubler.started.set()
    good, bad = doubler.executor.submit(1), doubler.executor.submit(-1)
    assert await good == 2
    with pytest.raises(ValueError, match="-1 is negative"):
        await bad


async def test_after_a_failed_batch_each_request_is_retried_by_itself() -> None:
    doubler = Doubler()
    doubler.started.set()
    futures = [doubler.executor.submit(number) for number in (1, 13, 2)]
    assert await futures[0] == 2
    with pytest.raises(ZeroDivisionError):
        await futures[1]
    assert await futures[2] == 4
    assert doubler.batches == [[1, 13, 2], [1], [13], [2]]


async def test_an_exception_that_concerns_every_request_is_not_retried() -> None:
    doubler = Doubler()
    doubler.unavailable = True
    doubler.started.set()
    futures = [doubler.executor.submit(number) for number in range(3)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    assert len(doubler.batches) == 1


async def test_a_cancelled_request_is_withdrawn_or_gets_no_result() -> None:
    doubler = Doubler()
    running = doubler.executor.submit(1)
    await asyncio.sleep(0)
    waiting, other = doubler.executor.submit(2), doubler.executor.submit(3)
    running.cancel()
    waiting.cancel()
    doubler.started.set()
    assert await other == 6
    assert doubler.batches == [[1], [3]]


async def test_requests_with_different_keys_do_not_wait_for_each_other() -> None:
    done: list[list[str]] = []
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def execute(words: Sequence[str]) -> list[str]:
        await gates[words[0][0]].wait()
        done.append(list(words))
        return list(words)

    executor = BatchExecutor(execute, max_size=10, key=lambda word: word[0])
    slow, quick = executor.submit("a1"), [executor.submit("b1"), executor.submit("b2")]
    gates["b"].set()
    await asyncio.gather(*quick)
    assert not slow.done()
    gates["a"].set()
    await slow
    assert done == [["b1", "b2"], ["a1"]]


async def test_no_request_waits_forever_after_its_batch_is_cancelled() -> None:
    async def execute(numbers: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.1)
        raise asyncio.CancelledError

    executor = BatchExecutor(execute, max_size=1)
    futures = [executor.submit(1), executor.submit(2)]
    _, pending = await asyncio.wait(futures, timeout=1)
    assert not pending


async def test_a_request_cancelled_while_its_batch_fails_is_not_retried() -> None:
    batches: list[list[int]] = []
    started = asyncio.Event()

    async def execute(numbers: Sequence[int]) -> list[int]:
        batches.append(list(numbers))
        await started.wait()
        if len(numbers) > 1:
            raise ZeroDivisionError
        return list(numbers)

    executor = BatchExecutor(execute, max_size=3)
    futures = [executor.submit(number) for number in range(3)]
    await asyncio.sleep(0.01)
    futures[1].cancel()
    started.set()
    await asyncio.wait(futures)
    assert batches == [[0, 1, 2], [0], [2]]


async def test_requests_do_not_wait_for_a_slow_batch() -> None:
    gate = asyncio.Event()

    async def execute(numbers: Sequence[int]) -> list[int]:
        if 0 in numbers:
            await gate.wait()
        return list(numbers)

    executor = BatchExecutor(execute, max_size=3)
    first = executor.submit(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        assert await asyncio.gather(*(executor.submit(number) for number in (1, 2, 3, 4))) == [1, 2, 3, 4]
        assert await executor.submit(5) == 5
    assert not first.done()
    gate.set()
    assert await first == 0


async def test_no_more_than_three_slow_batches_run_concurrently() -> None:
    """Each may hold a connection of the pool."""
    gate, running, peak = asyncio.Event(), 0, 0

    async def execute(numbers: Sequence[int]) -> list[int]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1
        return list(numbers)

    executor = BatchExecutor(execute, max_size=50)
    futures = []
    for number in range(20):
        futures.append(executor.submit(number))
        await asyncio.sleep(0.07)
    assert peak == running == 3
    gate.set()
    assert await asyncio.gather(*futures) == list(range(20))
    assert await executor.submit(20) == 20
