"""Rate limits in this process's memory: of addresses, of clients in `imago dev`, of reads during a database outage."""

import time
from collections import OrderedDict

from imago.core.clients.gcra import Rate, Verdict, arrival, verdict

MAX_SUBJECTS = 50_000


class LocalRates:
    """Limits the rates of the most recent subjects; one that was evicted starts again with a full burst."""

    def __init__(self, *, max_subjects: int = MAX_SUBJECTS) -> None:
        self._tats: OrderedDict[str, int] = OrderedDict()
        self._max = max_subjects

    async def spend(self, subject: str, rate: Rate) -> Verdict:
        """Charge a request to a subject, or refuse it."""
        return self.take(subject, rate)

    def take(self, subject: str, rate: Rate) -> Verdict:
        """Charge a request to a subject, or refuse it, without awaiting anything."""
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
        """Return the refusal that a request would get now, or None; charges nothing."""
        now = _now()
        before = self._tats.get(subject)
        if arrival(before, now, rate) is not None:
            return None
        return verdict((before or now) - now, rate, allowed=False)


def _now() -> int:
    return time.monotonic_ns() // 1000
