"""The job slots of a worker process: how many jobs run concurrently, and which lane gets the next free slot."""

import asyncio
from collections import deque

from imago.core.lanes.chooser import LaneChooser


class JobSlots:
    """A semaphore that serves its waiters by lane (`LaneChooser`) instead of first come, first served."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._chooser = LaneChooser()

    @property
    def busy(self) -> int:
        """The number of slots in use."""
        return self.count - self._free

    async def acquire(self, lane: str) -> None:
        """Wait for a slot for a message of a lane."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lane, deque()).append(waiter)
        self._assign()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # The waiter was cancelled after it had been given a slot.
                self.release()
            raise

    def release(self) -> None:
        """Return a slot."""
        self._free += 1
        self._assign()

    def _assign(self) -> None:
        while self._free:
            self._drop_cancelled()
            if not self._waiting:
                return
            lane = self._chooser.choose(self._waiting.keys())
            self._free -= 1
            self._waiting[lane].popleft().set_result(None)

    def _drop_cancelled(self) -> None:
        for lane, waiters in list(self._waiting.items()):
            while waiters and waiters[0].done():
                waiters.popleft()
            if not waiters:
                del self._waiting[lane]
