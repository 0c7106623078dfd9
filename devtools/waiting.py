"""Waiting for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(
    condition: Callable[[], Awaitable[T]], *, what: str, timeout: float = 20.0, interval: float = 0.02
) -> T:
    """Return the first true value of a condition; fail with what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain for: {what} (last seen: {value!r})"
        await asyncio.sleep(interval)
