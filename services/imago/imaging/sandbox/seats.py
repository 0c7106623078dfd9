"""Which task gets the next free child process: that of the client with the fewest tasks in progress."""

import asyncio
from collections import Counter, deque
from collections.abc import Hashable


class Seats:
    """A semaphore with one permit more for clients that hold none.

    Without it, a client whose tasks take minutes would keep everybody else's waiting for as long. Tasks without a
    client count as those of one client, which gets no further permit.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: Counter[Hashable] = Counter()
        self._waiting: deque[tuple[Hashable, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """The number of permits in use."""
        return self._held.total()

    async def acquire(self, client: Hashable) -> None:
        """Wait for a permit for a client's task; None is a task without a client."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((client, waiter))
        self._assign()
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiting = deque(entry for entry in self._waiting if entry[1] is not waiter)
            if waiter.done() and not waiter.cancelled():
                # The waiter was cancelled after it had been given a permit.
                self.release(client)
            raise

    def release(self, client: Hashable) -> None:
        """Return a permit."""
        self._held[client] -= 1
        # Counters keep zeros, one for each client ever seen.
        self._held = +self._held
        self._assign()

    def _assign(self) -> None:
        while (chosen := self._next()) is not None:
            client, waiter = chosen
            self._waiting.remove(chosen)
            self._held[client] += 1
            waiter.set_result(None)

    def _next(self) -> tuple[Hashable, "asyncio.Future[None]"] | None:
        """Return the waiter that gets a permit now, the first of those whose clients hold the fewest."""
        if self.taken > self._count:
            return None
        entitled = self._may_have_one_more if self.taken == self._count else lambda _: True
        waiting = [entry for entry in self._waiting if not entry[1].done() and entitled(entry[0])]
        # Of equals, the first is taken.
        return min(waiting, key=lambda entry: self._held[entry[0]], default=None)

    def _may_have_one_more(self, client: Hashable) -> bool:
        return client is not None and not self._held[client]
