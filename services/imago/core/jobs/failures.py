"""How a stage fails: the three classes of error, and the wait before the next try."""

import errno
import random
from datetime import timedelta

# What the system says where the machine has no room, memory, process or descriptor left: trouble of ours, whatever the
# image is like, so the try doesn't count.
EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})


class StageFailure(Exception):
    """A try of a stage that gave no result; `code` is stable, `text` is safe to show to the client."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class TransientFailure(StageFailure):
    """It may work next time; the try counts."""


class PermanentFailure(StageFailure):
    """It can't work, however often it is tried: the stage is dead at once."""


class Throttled(StageFailure):
    """A provider asks us to wait; the try doesn't count, and the wait is spent outside the stream when it is long."""

    def __init__(self, code: str, text: str, delay: timedelta) -> None:
        super().__init__(code, text)
        self.delay = delay


# A wait up to this stays in the stream as a delayed nak; a longer one goes back to the outbox, because a nak'ed
# message counts as lag and KEDA would scale up on it (DESIGN, section 5).
LONGEST_NAK = timedelta(seconds=30)


def backoff(attempt: int, *, base: timedelta, cap: timedelta, rng: random.Random | None = None) -> timedelta:
    """Return the wait after the given attempt (1 is the first): exponential with full jitter, at most `cap`.

    Full jitter spreads the retries of many workers best (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    ceiling = min(cap, base * 2 ** min(attempt - 1, 32))
    draw = (rng or random).uniform(0.0, ceiling.total_seconds())
    return timedelta(seconds=draw)
