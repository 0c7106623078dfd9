"""Request rates in this process's memory: of addresses, of an embedded Imago, of reads while the database is away."""

import time
from collections import OrderedDict

from imago.core.clients.gcra import Rate, Verdict, arrival, verdict

MAX_SUBJECTS = 50_000


class LocalRates:
    """Keeps the subjects that asked last; one that is pushed out begins with a full burst again."""

    def __init__(self, *, max_subjects: int = MAX_SUBJECTS) -> None:
        self._tats: OrderedDict[str, int] = OrderedDict()
        self._max = max_subjects

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Take one request of a subject, or refuse it."""
        return self.take(subject, rate)

    def take(self, subject: str, rate: Rate) -> Verdict:
        """Do the same without waiting for anything."""
        now = _now()
        before = self._tats.get(subject)
        after = arrival(before, now, rate)
        if after is None:
            return verdict((before or now) - now, rate, allowed=False)
        self._tats[subject] = after
        self._tats.move_to_end(subject)
        while len(self._tats) > self._max:
            self._tats.popitem(last=False)
        return verdict(after - now, rate, allowed=True)

    def exhausted(self, subject: str, rate: Rate) -> Verdict | None:
        """Return the refusal that a request would get now, or None; nothing is taken."""
        now = _now()
        before = self._tats.get(subject)
        if arrival(before, now, rate) is not None:
            return None
        return verdict((before or now) - now, rate, allowed=False)


def _now() -> int:
    return time.monotonic_ns() // 1000
