"""How an attempt of a stage fails, and the delay before the next attempt."""

import errno
import random
from datetime import timedelta

# Errors of a machine that has run out of disk space, memory, processes or descriptors. They say nothing about the
# image, so the attempt does not count.
EXHAUSTED_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})


class StageFailure(Exception):
    """An attempt of a stage without a result; `code` is stable, `text` is safe to show to the client."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class TransientFailure(StageFailure):
    """A failure that another attempt may not have; the attempt counts."""


class PermanentFailure(StageFailure):
    """A failure that every attempt would have: the stage is dead immediately."""


class Throttled(StageFailure):
    """A provider asks for a pause of `delay`; the attempt does not count."""

    def __init__(self, code: str, text: str, delay: timedelta) -> None:
        super().__init__(code, text)
        self.delay = delay


def backoff(attempt: int, *, base: timedelta, cap: timedelta, rng: random.Random | None = None) -> timedelta:
    """Return the delay after the given attempt, counted from 1: exponential with full jitter, at most `cap`.

    Full jitter spreads the retries of many workers best (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    ceiling = min(cap, base * 2 ** min(attempt - 1, 32))
    return timedelta(seconds=(rng or random).uniform(0.0, ceiling.total_seconds()))
