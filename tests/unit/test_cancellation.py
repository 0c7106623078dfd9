"""Tasks end when they are told to, also those that a library keeps from hearing it."""

import asyncio

from imago.cancellation import end_tasks


async def test_a_task_that_swallows_a_cancellation_is_told_again() -> None:
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while heard < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                heard += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await end_tasks(task, None)
    assert (task.done(), heard) == (True, 2)


async def test_a_task_that_failed_is_no_trouble() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await end_tasks(task)
    assert isinstance(task.exception(), ValueError)
