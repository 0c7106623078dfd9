"""Job slots of a worker process: how many jobs run at once, and whose message gets the next free slot."""

import asyncio
from collections import deque

from imago.core.lanes.chooser import LaneChooser


class JobSlots:
    """A semaphore whose waiters are served by the rules of the lanes instead of by their arrival."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._chooser = LaneChooser()

    @property
    def busy(self) -> int:
        """The number of slots taken."""
        return self.count - self._free

    async def acquire(self, lane: str) -> None:
        """Wait for a slot for a message of a lane."""
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lane, deque()).append(ticket)
        self._hand_out()
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled():
                # The slot had been handed over at the very same moment.
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free:
            self._forget_cancelled()
            if not self._waiting:
                return
            lane = self._chooser.choose(self._waiting.keys())
            self._free -= 1
            self._waiting[lane].popleft().set_result(None)

    def _forget_cancelled(self) -> None:
        for lane, tickets in list(self._waiting.items()):
            while tickets and tickets[0].done():
                tickets.popleft()
            if not tickets:
                del self._waiting[lane]
