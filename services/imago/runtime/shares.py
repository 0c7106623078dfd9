"""Fair shares of something that a process has a limited amount of: bytes of memory, fetches, threads.

`Shares` is the rule, and `FairShares` lets coroutines wait for it. A holder, mostly a client, may take up to a multiple
of what would remain free. So one holder alone gets most of the total, several get equal parts, and something is always
left for a holder that has nothing. This is the dynamic threshold of shared-memory switches (Choudhury and Hahne, 1998).
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Collection, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager

# One holder alone gets two thirds of the total, each of two 40 %, each of five 18 %.
WEIGHT = 2


class ShareExhausted(Exception):
    """A holder can't take more now: because of its own share (`of_holder`), or because everything is in use."""

    def __init__(self, *, of_holder: bool) -> None:
        super().__init__("the holder's share is in use" if of_holder else "everything is in use")
        self.of_holder = of_holder


class Shares:
    """Who holds how much of a total; `weight` is the largest ratio of a holder's part to what remains free."""

    def __init__(self, total: int, *, weight: int = WEIGHT) -> None:
        self.total = total
        self._weight = weight
        self._held: Counter[Hashable] = Counter()
        self.used = 0

    def held(self, holder: Hashable) -> int:
        """Return how much a holder has."""
        return self._held[holder]

    def fits(self, holder: Hashable, size: int, *, newcomers: bool = False) -> bool:
        """Return whether a holder may take `size` more; while newcomers wait, only they may."""
        held, free = self._held[holder], self.total - self.used - size
        if self.used == 0:
            # Even more than the total: what fits nowhere else would never be served.
            return True
        if held == 0:
            return free >= 0
        return not newcomers and held + size <= self._weight * free

    def take(self, holder: Hashable, size: int) -> None:
        """Give `size` to a holder."""
        self._held[holder] += size
        self.used += size

    def give_back(self, holder: Hashable, size: int) -> None:
        """Take `size` back from a holder."""
        self._held[holder] -= size
        self.used -= size
        if not self._held[holder]:
            del self._held[holder]

    def next_of(self, waiting: Collection[Hashable]) -> Iterator[Hashable]:
        """Yield the waiting holders in the order in which they are served: those with the least first."""
        yield from sorted(waiting, key=self.held)


class FairShares:
    """Shares that coroutines hold for a while, waiting for them if they want; at most `max_waiting` wait."""

    def __init__(self, total: int, *, weight: int = WEIGHT, max_waiting: int = 1000) -> None:
        self._shares = Shares(total, weight=weight)
        self._max_waiting = max_waiting
        self._queues: OrderedDict[Hashable, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def used(self) -> int:
        """How much is held."""
        return self._shares.used

    @property
    def total(self) -> int:
        """How much there is."""
        return self._shares.total

    @contextmanager
    def hold_now(self, holder: Hashable, size: int) -> Iterator[None]:
        """Hold `size` during the block; raise ShareExhausted if the holder can't have it immediately.

        It is not behind the holder's own requests that wait: a large one would get all its small ones refused.
        """
        if not self._shares.fits(holder, size, newcomers=self._newcomers()):
            raise self._exhausted(holder, size)
        self._shares.take(holder, size)
        try:
            yield
        finally:
            self._give_back(holder, size)

    @asynccontextmanager
    async def hold(self, holder: Hashable, size: int = 1, *, timeout: float) -> AsyncIterator[None]:
        """Hold `size` during the block, after waiting up to `timeout` seconds for it; raise ShareExhausted."""
        # Behind the holder's own requests that wait already.
        if holder not in self._queues and self._shares.fits(holder, size, newcomers=self._newcomers()):
            self._shares.take(holder, size)
        else:
            await self._wait(holder, size, timeout)
        try:
            yield
        finally:
            self._give_back(holder, size)

    def _newcomers(self) -> bool:
        return any(self._shares.held(holder) == 0 for holder in self._queues)

    def _exhausted(self, holder: Hashable, size: int) -> ShareExhausted:
        return ShareExhausted(of_holder=self._shares.held(holder) > 0 and self._shares.used + size <= self.total)

    async def _wait(self, holder: Hashable, size: int, timeout: float) -> None:
        if sum(map(len, self._queues.values())) >= self._max_waiting:
            raise self._exhausted(holder, size)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, granted)
        self._queues.setdefault(holder, deque()).append(entry)
        try:
            async with asyncio.timeout(timeout):
                await granted
        except BaseException as error:
            self._withdraw(holder, entry)
            if isinstance(error, TimeoutError):
                raise self._exhausted(holder, size) from None
            raise

    def _withdraw(self, holder: Hashable, entry: tuple[int, asyncio.Future[None]]) -> None:
        size, granted = entry
        if granted.done() and not granted.cancelled():
            # Granted and cancelled in the same step of the loop.
            self._give_back(holder, size)
            return
        self._remove(holder, entry)
        # It may have kept others waiting behind it.
        self._grant()

    def _give_back(self, holder: Hashable, size: int) -> None:
        self._shares.give_back(holder, size)
        if self._queues:
            self._grant()

    def _grant(self) -> None:
        while self._grant_one():
            pass

    def _grant_one(self) -> bool:
        newcomers = self._newcomers()
        for holder in self._shares.next_of(self._queues):
            # A cancelled request is passed over; it withdraws itself in the next step of the loop.
            entry = next((entry for entry in self._queues[holder] if not entry[1].done()), None)
            if entry is None or not self._shares.fits(holder, entry[0], newcomers=newcomers):
                continue
            self._remove(holder, entry)
            self._shares.take(holder, entry[0])
            entry[1].set_result(None)
            return True
        return False

    def _remove(self, holder: Hashable, entry: tuple[int, asyncio.Future[None]]) -> None:
        queue = self._queues[holder]
        queue.remove(entry)
        if not queue:
            del self._queues[holder]
