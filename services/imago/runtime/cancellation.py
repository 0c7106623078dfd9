"""Reliable cancellation of background tasks."""

import asyncio
from typing import Any

# A cancellation that was swallowed is repeated after this.
_REPEAT_SECONDS = 1.0


async def end_tasks(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and wait until they have ended, ignoring their results and exceptions.

    `asyncio.wait_for`, which nats-py uses, loses a cancellation that arrives together with its result (cpython #86296,
    until 3.12); a loop around it would never end, so tasks are cancelled repeatedly.
    """
    running = {task for task in tasks if task is not None and not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_REPEAT_SECONDS)
