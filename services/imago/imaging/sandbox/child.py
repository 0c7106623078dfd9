"""The long-lived child process that does hostile work: `python -m imago.imaging.sandbox.child`.

A crash, a runaway of memory or CPU, or a hang takes down this process only; its parent notices and starts another.
Requests and answers are JSON with a length of four bytes before them, never pickles: a child that a crafted image took
over must not own its parent. Tasks name their modules, which are imported when first used, so that a child that makes
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
    "prepare_for_vision": "imago.imaging.sandbox.tasks:vision_input",
    "ocr": "imago.imaging.sandbox.tasks:ocr",
    "page_for_provider": "imago.imaging.sandbox.tasks:page_jpeg",
    "ocr_fallback": "imago.imaging.sandbox.tasks:ocr_fallback",
}

_MAX_REQUEST = 1 << 20
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve tasks from standard input until it ends."""
    parser = argparse.ArgumentParser(prog="imago.imaging.sandbox.child")
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--cpu-seconds", type=int, required=True)
    parser.add_argument("--task", action="append", default=[], help="NAME=MODULE:FUNCTION, beside those of imaging")
    options = parser.parse_args()
    tasks = {**TASKS, **dict(item.split("=", 1) for item in options.task)}
    # Libraries print; what they print must not end up between two answers.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _die_with_parent()
    _die_first()
    # Ctrl-C reaches the whole group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(options.memory_mb)
    while (request := _read(requests)) is not None:
        _limit_cpu(options.cpu_seconds)
        _write(answers, _answer(tasks, request))


def _answer(tasks: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"ok": _function(tasks[request["task"]])(**request["arguments"])}
    except MemoryError:
        return _out_of_memory()
    except PermanentFailure as failure:
        return _failed("permanent", failure.code, failure.text)
    except (StageFailure, TransientFailure) as failure:
        return _failed("transient", failure.code, failure.text)
    except Exception as error:
        # Standard error is the worker's log; the client sees no more than the code.
        sys.stderr.write(f"{request.get('task')}: {type(error).__name__}: {error}\n")
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            # This process' own limit, as for MemoryError: the image's fault, and not the machine's.
            return _out_of_memory()
        if isinstance(error, OSError) and error.errno in EXHAUSTED_ERRNOS:
            return {"exhausted": error.errno}
        return _failed("transient", "internal-error", "The stage failed unexpectedly.")


def _out_of_memory() -> dict[str, Any]:
    return _failed("permanent", "out-of-memory", "The image needs more memory than a worker may use.")


def _failed(kind: str, code: str, text: str) -> dict[str, Any]:
    return {"failure": {"kind": kind, "code": code, "text": text}}


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    length = struct.unpack(">I", head)[0]
    if length > _MAX_REQUEST:
        return None
    request: dict[str, Any] = json.loads(stream.read(length))
    return request


def _write(stream: BinaryIO, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def _limit_memory(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        # Other systems don't enforce RLIMIT_AS; there the pixel limit alone bounds memory.
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
    # Elsewhere the end of standard input tells.


def _die_first() -> None:
    """Have the kernel kill this process, and not its parent, where the two run out of memory together."""
    if sys.platform == "linux":
        # Nobody needs a right to be killed sooner, but a sandbox may hide the file.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
