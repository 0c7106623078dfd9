"""Ending background tasks for sure."""

import asyncio
from typing import Any

# A cancellation that was swallowed is repeated after this.
_PATIENCE_SECONDS = 1.0


async def end_tasks(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and wait until they have ended; what they end with is nobody's business any more.

    `asyncio.wait_for`, which nats-py waits with, loses a cancellation that comes together with its result (cpython
    #86296, until 3.12); a loop around it then goes on for ever, so it is cancelled until it listens.
    """
    left = {task for task in tasks if task is not None and not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_PATIENCE_SECONDS)
