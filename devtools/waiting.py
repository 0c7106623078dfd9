"""Waiting for a condition instead of sleeping for a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(
    condition: Callable[[], Awaitable[T]], *, what: str, timeout: float = 20.0, interval: float = 0.02
) -> T:
    """Return the first true value of a condition; after the timeout, fail with `what` and the last value."""
    deadline = time.monotonic() + timeout
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"timed out after {timeout:g} s waiting for {what} (last seen: {value!r})"
        await asyncio.sleep(interval)
