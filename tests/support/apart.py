"""asyncio servers for blocking tests: each runs in a separate loop and thread."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")

_SECONDS = 20


@contextmanager
def apart(opened: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Keep an asynchronous context open in another thread, and yield its value."""
    ended = asyncio.Event()
    started: Future[tuple[T, asyncio.AbstractEventLoop]] = Future()

    async def keep() -> None:
        try:
            async with opened as value:
                started.set_result((value, asyncio.get_running_loop()))
                await ended.wait()
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    with ThreadPoolExecutor(1) as pool:
        keeping = pool.submit(asyncio.run, keep())
        value, loop = started.result(_SECONDS)
        try:
            yield value
        finally:
            loop.call_soon_threadsafe(ended.set)
            keeping.result(_SECONDS)
