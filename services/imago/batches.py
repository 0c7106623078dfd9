"""Doing in batches what is asked for one by one."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batches(Generic[Asked, Answer]):
    """Gathers what is asked for while a batch is under way into the next one.

    Who asks alone doesn't wait, and a batch is as large as the load makes it. `work` answers each of a batch, in their
    order, with an answer or with the exception that its asker is to get. Where it raises one instead, that is
    everybody's if it is one of `common`; otherwise each is tried again alone, so that what can't be done fails alone.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]],
        *,
        largest: int,
        common: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._largest = largest
        self._common = common
        self._waiting: deque[tuple[Asked, asyncio.Future[Answer]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def ask(self, asked: Asked) -> asyncio.Future[Answer]:
        """Have something done; who cancels the future before its batch begins has it left out."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._task is None:
            # In a context of its own: what the first to ask has bound there is not the others'.
            self._task = asyncio.create_task(self._run(), name="batches", context=contextvars.Context())
        return future

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._do(batch)
        finally:
            self._task = None

    def _next(self) -> list[tuple[Asked, asyncio.Future[Answer]]]:
        batch: list[tuple[Asked, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < self._largest:
            asked, future = self._waiting.popleft()
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
