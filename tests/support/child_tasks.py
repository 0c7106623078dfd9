"""Tasks that fail in a child process, or that report its state."""

import ctypes
import errno
import os
import time
from typing import BinaryIO

from imago.imaging.cpu_limit import cpu_limit


def double(*, number: int) -> int:
    print("libraries print")
    return number * 2


def reject() -> None:
    from imago.core.jobs.failures import PermanentFailure

    raise PermanentFailure("bad-image", "It is bad.")


def crash() -> None:
    ctypes.string_at(0)


def print_and_crash() -> None:
    """Print four bytes and end."""
    os.write(2, b"text")
    os._exit(1)


def use_cpu() -> None:
    while True:
        pass


def compute_too_long() -> None:
    with cpu_limit(0.2):
        use_cpu()


def compute_in_parts() -> int:
    for _ in range(4):
        with cpu_limit(0.5):
            compute(seconds=0.2)
    compute(seconds=0.1)
    return 1


def compute(*, seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def sleep(*, seconds: float) -> None:
    time.sleep(seconds)


def use_memory() -> int:
    return len(bytearray(8 * 2**30))


def run_out_of_memory() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def run_out_of_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raise_bug() -> None:
    raise RuntimeError("a path: /secret/place")


def process_id() -> int:
    return os.getpid()


def copy(*, source: BinaryIO, target: BinaryIO) -> int:
    return target.write(source.read().upper())


def environment() -> dict[str, str]:
    return dict(os.environ)


def print_much(*, megabytes: int) -> int:
    """Print what a decoder prints about a crafted file; return the number of failed writes."""
    failed = 0
    for _ in range(megabytes * 16):
        try:
            os.write(2, b"Warning\x1b[31m, \xff\n" * 4096)
        except OSError:
            failed += 1
    return failed
