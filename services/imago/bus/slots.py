"""Job slots of a worker process: how many jobs run at once, and whose message gets the next free slot."""

import asyncio
from collections import deque

from imago.domain.scheduling import LaneChooser


class Slots:
    """A semaphore whose waiters are served by the rules of the lanes instead of by their arrival."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._chooser = LaneChooser()
        self._changed = asyncio.Event()

    @property
    def busy(self) -> int:
        """The number of slots taken."""
        return self.count - self._free

    async def acquire(self, lane: str, *, timeout: float) -> bool:
        """Wait for a slot for a message of a lane; False where none came free in time."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lane, deque()).append(ticket)
        self._hand_out()
        try:
            async with asyncio.timeout(timeout):
                await ticket
        except TimeoutError:
            return self._withdraw(lane, ticket)
        except asyncio.CancelledError:
            if self._withdraw(lane, ticket):
                self.release()
            raise
        return True

    def release(self) -> None:
        """Give a slot back."""
        self._free += 1
        self._hand_out()

    async def wait_free(self) -> None:
        """Wait until a slot is free that nobody waits for."""
        while not self._free:
            self._changed.clear()
            await self._changed.wait()

    def _withdraw(self, lane: str, ticket: asyncio.Future[None]) -> bool:
        """Stop waiting; True where the slot had been handed over at the very same moment."""
        if ticket.done() and not ticket.cancelled():
            return True
        self._waiting[lane].remove(ticket)
        if not self._waiting[lane]:
            del self._waiting[lane]
        return False

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            lane = self._chooser.choose(self._waiting.keys())
            ticket = self._waiting[lane].popleft()
            if not self._waiting[lane]:
                del self._waiting[lane]
            self._free -= 1
            ticket.set_result(None)
        if self._free:
            self._changed.set()
