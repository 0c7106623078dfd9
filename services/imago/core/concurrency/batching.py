"""Batching of concurrent requests: those that arrive while a batch is running form the next batch."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")

# Requests do not wait for a batch that takes longer than this, for example because it waits for a lock.
SLOW_BATCH_SECONDS = 0.25

# Per key, because each batch holds a connection of the pool that all keys share.
MAX_CONCURRENT_BATCHES = 3


@dataclass
class _Queue:
    """The waiting requests of one key, the number of its tasks, and how many of these run a slow batch."""

    waiting: deque[tuple[Any, asyncio.Future[Any]]] = field(default_factory=deque)
    running: int = 0
    slow: int = 0


class BatchExecutor(Generic[Request, Result]):
    """Executes concurrent requests in batches.

    A single request runs immediately, and batches grow with the load up to `max_size`. `execute` returns a result or an
    exception for each request of a batch, in their order. If it raises one of `not_retried`, every request of the batch
    gets that exception; after any other exception each request is executed again separately, so that a failing request
    does not affect the others. Requests with different keys (see `key`) are in different batches, which run
    concurrently.
    """

    def __init__(
        self,
        execute: Callable[[Sequence[Request]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_size: int,
        not_retried: tuple[type[Exception], ...] = (),
        key: Callable[[Request], Hashable] = lambda _: None,
    ) -> None:
        self._execute = execute
        self._max_size = max_size
        self._not_retried = not_retried
        self._key = key
        self._queues: dict[Hashable, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, request: Request) -> asyncio.Future[Result]:
        """Return a future of the request's result; cancelling it before the batch starts withdraws the request."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        key = self._key(request)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        queue.waiting.append((request, future))
        self._start_task(key, queue)
        return future

    def _start_task(self, key: Hashable, queue: _Queue) -> None:
        # A task whose batch is not slow takes the waiting requests next.
        if not queue.waiting or queue.running > queue.slow or queue.running >= MAX_CONCURRENT_BATCHES:
            return
        queue.running += 1
        # In an empty context: log fields and traces of the first request do not belong to the others.
        task = asyncio.create_task(self._run(key, queue), name="batch-executor", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: Hashable, queue: _Queue) -> None:
        try:
            while batch := self._next_batch(queue.waiting):
                await self._run_batch(batch, key, queue)
        finally:
            queue.running -= 1
            if not queue.running:
                del self._queues[key]
                # Requests are left only if this task was cancelled.
                for _, future in queue.waiting:
                    future.cancel()

    async def _run_batch(
        self, batch: list[tuple[Request, asyncio.Future[Result]]], key: Hashable, queue: _Queue
    ) -> None:
        is_slow = False

        def mark_slow() -> None:
            nonlocal is_slow
            is_slow = True
            queue.slow += 1
            self._start_task(key, queue)

        timer = asyncio.get_running_loop().call_later(SLOW_BATCH_SECONDS, mark_slow)
        try:
            await self._resolve(batch)
        finally:
            timer.cancel()
            queue.slow -= is_slow
            # Only after a cancellation or a bug is a future still pending, and its caller would wait forever.
            for _, future in batch:
                future.cancel()

    def _next_batch(
        self, waiting: deque[tuple[Request, asyncio.Future[Result]]]
    ) -> list[tuple[Request, asyncio.Future[Result]]]:
        batch: list[tuple[Request, asyncio.Future[Result]]] = []
        while waiting and len(batch) < self._max_size:
            request, future = waiting.popleft()
            if not future.done():
                batch.append((request, future))
        return batch

    async def _resolve(self, batch: list[tuple[Request, asyncio.Future[Result]]]) -> None:
        try:
            results: Sequence[Result | Exception] = await self._execute([request for request, _ in batch])
        except self._not_retried as error:
            results = [error] * len(batch)
        except Exception as error:
            if len(batch) > 1:
                for each in batch:
                    if not each[1].done():
                        await self._resolve([each])
                return
            results = [error]
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
