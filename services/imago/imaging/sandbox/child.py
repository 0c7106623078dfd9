"""The long-lived child process that runs tasks on untrusted bytes: `python -m imago.imaging.sandbox.child`.

A crash, too much memory or CPU, or a hang ends only this process; the pool notices and starts another one. Requests and
responses are JSON after a length of four bytes, never pickles: a child that a crafted image took over must not be able
to run code in its parent. The module of a task is imported when the task first runs, so that a child that makes
thumbnails doesn't load an OCR engine.
"""

import argparse
import contextlib
import ctypes
import errno
import importlib
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from imago.core.jobs.failures import EXHAUSTED_ERRNOS, PermanentFailure, StageFailure, TransientFailure

TASKS = {
    "thumbnail": "imago.imaging.sandbox.tasks:thumbnail",
    "prepare_for_vision": "imago.imaging.sandbox.tasks:prepare_for_vision",
    "ocr": "imago.imaging.sandbox.tasks:ocr",
    "page_for_provider": "imago.imaging.sandbox.tasks:page_for_provider",
    "ocr_fallback": "imago.imaging.sandbox.tasks:ocr_fallback",
}

_MAX_REQUEST = 1 << 20
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the tasks that standard input requests until it ends."""
    parser = argparse.ArgumentParser(prog="imago.imaging.sandbox.child")
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--cpu-seconds", type=int, required=True)
    parser.add_argument("--task", action="append", default=[], help="NAME=MODULE:FUNCTION of an additional task")
    options = parser.parse_args()
    tasks = {**TASKS, **dict(item.split("=", 1) for item in options.task)}
    # Libraries print to standard output, which must not get between two responses.
    requests, responses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _die_with_parent()
    _die_before_parent()
    # Ctrl-C signals the whole process group, but the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(options.memory_mb)
    while (request := _read(requests)) is not None:
        _limit_cpu(options.cpu_seconds)
        _write(responses, _run(tasks, request))


def _run(tasks: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": _load(tasks[request["task"]])(**request["arguments"])}
    except MemoryError:
        return _out_of_memory()
    except PermanentFailure as failure:
        return _failure("permanent", failure.code, failure.text)
    except (StageFailure, TransientFailure) as failure:
        return _failure("transient", failure.code, failure.text)
    except Exception as error:
        # Standard error goes to the worker's log. The client gets only the code.
        sys.stderr.write(f"{request.get('task')}: {type(error).__name__}: {error}\n")
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            # This process reached its own limit, as with MemoryError: the image is the cause, not the machine.
            return _out_of_memory()
        if isinstance(error, OSError) and error.errno in EXHAUSTED_ERRNOS:
            return {"exhausted": error.errno}
        return _failure("transient", "internal-error", "The stage failed unexpectedly.")


def _out_of_memory() -> dict[str, Any]:
    return _failure("permanent", "out-of-memory", "The image needs more memory than a worker may use.")


def _failure(kind: str, code: str, text: str) -> dict[str, Any]:
    return {"failure": {"kind": kind, "code": code, "text": text}}


def _load(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    length = struct.unpack(">I", head)[0]
    if length > _MAX_REQUEST:
        return None
    request: dict[str, Any] = json.loads(stream.read(length))
    return request


def _write(stream: BinaryIO, response: dict[str, Any]) -> None:
    body = json.dumps(response).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def _limit_memory(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        # Other systems don't enforce RLIMIT_AS. There, only the pixel limit bounds memory.
        return
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = present + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # On other systems the process exits at the end of standard input.


def _die_before_parent() -> None:
    """Make the kernel kill this process instead of its parent when memory runs out."""
    if sys.platform == "linux":
        # Raising its own score needs no privilege, but a container may hide the file.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
