"""What a child process is made to do in tests of what happens to it then."""

import ctypes
import errno
import os
import time


def double(*, number: int) -> int:
    print("libraries print")
    return number * 2


def refuse() -> None:
    from imago.core.jobs.failures import PermanentFailure

    raise PermanentFailure("bad-image", "It is bad.")


def crash() -> None:
    ctypes.string_at(0)


def burn() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(600)


def gorge() -> int:
    return len(bytearray(8 * 2**30))


def bug() -> None:
    raise RuntimeError("a path: /secret/place")


def nap(*, seconds: float) -> None:
    time.sleep(seconds)


def map_much() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
