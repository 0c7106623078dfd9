"""Doing in batches what is asked for one by one."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

# What comes after a batch that takes longer than this (it waits for a lock, say) doesn't wait for it as well.
PATIENCE_SECONDS = 0.25

# But no more of one key's are under way than this: each holds a connection of the pool, and they are everybody's.
MOST_AT_ONCE = 3


@dataclass
class _Line:
    """What waits of one key, how many tasks see to it, and how many of those are late with their batch."""

    waiting: deque[tuple[Any, asyncio.Future[Any]]] = field(default_factory=deque)
    running: int = 0
    late: int = 0


class Batches(Generic[Asked, Answer]):
    """Gathers what is asked for while a batch is under way into the next one.

    Who asks alone doesn't wait, and a batch is as large as the load makes it. `work` answers each of a batch, in their
    order, with an answer or with the exception that its asker is to get. Where it raises one instead, that is
    everybody's if it is one of `common`; otherwise each is tried again alone, so that what can't be done fails alone.
    What has different keys by `key` goes into different batches, which wait for nothing of each other.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]],
        *,
        largest: int,
        common: tuple[type[Exception], ...] = (),
        key: Callable[[Asked], Hashable] = lambda _: None,
    ) -> None:
        self._work = work
        self._largest = largest
        self._common = common
        self._key = key
        self._lines: dict[Hashable, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, asked: Asked) -> asyncio.Future[Answer]:
        """Have something done; who cancels the future before its batch begins has it left out."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        key = self._key(asked)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        line.waiting.append((asked, future))
        self._see_to(key, line)
        return future

    def _see_to(self, key: Hashable, line: _Line) -> None:
        # Who isn't late takes what waits with the next batch.
        if not line.waiting or line.running > line.late or line.running >= MOST_AT_ONCE:
            return
        line.running += 1
        # In a context of its own: what the first to ask has bound there is not the others'.
        task = asyncio.create_task(self._run(key, line), name="batches", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: Hashable, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        is_late = False

        def be_late() -> None:
            nonlocal is_late
            is_late = True
            line.late += 1
            self._see_to(key, line)

        try:
            while batch := self._next(line.waiting):
                timer = loop.call_later(PATIENCE_SECONDS, be_late)
                try:
                    await self._do(batch)
                finally:
                    timer.cancel()
                    line.late -= is_late
                    is_late = False
                    # Only a cancellation, or a bug of ours, leaves any: nobody must wait for ever.
                    for _, future in batch:
                        future.cancel()
        finally:
            line.running -= 1
            if not line.running:
                del self._lines[key]
                # Of those that wait there are none but where this was cancelled.
                for _, future in line.waiting:
                    future.cancel()

    def _next(self, waiting: deque[tuple[Asked, asyncio.Future[Answer]]]) -> list[tuple[Asked, asyncio.Future[Answer]]]:
        batch: list[tuple[Asked, asyncio.Future[Answer]]] = []
        while waiting and len(batch) < self._largest:
            asked, future = waiting.popleft()
            if not future.done():
                batch.append((asked, future))
        return batch

    async def _do(self, batch: list[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        try:
            answers: Sequence[Answer | Exception] = await self._work([asked for asked, _ in batch])
        except self._common as error:
            answers = [error] * len(batch)
        except Exception as error:
            if len(batch) > 1:
                for each in batch:
                    if not each[1].done():
                        await self._do([each])
                return
            answers = [error]
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
