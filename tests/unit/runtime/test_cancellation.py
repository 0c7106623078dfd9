"""Cancelled tasks end, even if a library swallows the cancellation."""

import asyncio

from imago.runtime.cancellation import end_tasks


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    cancellations = 0

    async def swallow_one() -> None:
        nonlocal cancellations
        while cancellations < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancellations += 1

    task = asyncio.create_task(swallow_one())
    await asyncio.sleep(0)
    await end_tasks(task, None)
    assert (task.done(), cancellations) == (True, 2)


async def test_a_failed_task_is_ignored() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await end_tasks(task)
    assert isinstance(task.exception(), ValueError)
