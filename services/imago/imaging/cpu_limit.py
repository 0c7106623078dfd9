"""A limit of CPU time for a part of a task, in the process that runs it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# What ends the process. Libraries that compute for minutes don't return to Python, which could raise an exception.
SIGNAL = signal.SIGPROF


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """End this process by `SIGNAL` when it has computed for longer than this in the block."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
