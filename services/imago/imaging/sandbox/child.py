"""The long-lived child process that runs tasks on untrusted bytes.

A crash, too much memory or CPU, or a hang ends only this process; the pool notices and starts another one. Before its
first task the process gives up its rights (`confinement`): it opens nothing but libraries, and the files of a task are
open when it gets them. The module of a task is imported when the task first runs, so that a child that makes thumbnails
doesn't load an OCR engine; modules of additional tasks may be anywhere, and are imported before.
"""

import argparse
import contextlib
import errno
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from imago.core.jobs.failures import EXHAUSTED_ERRNOS, PermanentFailure, StageFailure, TransientFailure
from imago.imaging.sandbox.channel import receive_request, send_response
from imago.imaging.sandbox.confinement import Allowances, confine

TASKS = {
    "thumbnail": "imago.imaging.sandbox.tasks:thumbnail",
    "prepare_for_vision": "imago.imaging.sandbox.tasks:prepare_for_vision",
    "ocr": "imago.imaging.sandbox.tasks:ocr",
    "page_for_provider": "imago.imaging.sandbox.tasks:page_for_provider",
    "ocr_fallback": "imago.imaging.sandbox.tasks:ocr_fallback",
}

# How a file is opened: tasks read their input, and may read what they have written.
MODES = {"read": "rb", "write": "r+b"}


def main() -> None:
    """Run the tasks that are requested on the socket at standard input until it is closed."""
    options = _parser().parse_args()
    # Standard input is the channel; libraries that print must not write to it.
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(2, 1)
    _prepare_process(options)
    tasks = {**TASKS, **dict(item.split("=", 1) for item in options.task)}
    for item in options.task:
        _load(item.partition("=")[2])
    confine(
        Allowances(
            readable=[*options.read, *options.tessdata],
            command=options.command,
            temporary=options.temporary,
            memory_mb=options.memory_mb,
        )
    )
    send_response(channel, {"ready": True})
    while (received := receive_request(channel)) is not None:
        send_response(channel, _run(tasks, *received))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="imago.imaging.sandbox.child")
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--task", action="append", default=[], help="NAME=MODULE:FUNCTION of an additional task")
    parser.add_argument("--read", type=Path, action="append", default=[], help="a directory of an engine's data")
    parser.add_argument("--tessdata", type=Path, nargs=1, default=[], help="as TESSDATA_PREFIX")
    parser.add_argument("--command", type=Path, help="the command of an OCR engine")
    parser.add_argument("--temporary", type=Path, help="the directory for a command's temporary files")
    return parser


def _prepare_process(options: argparse.Namespace) -> None:
    """Set what libraries read from the environment, which is empty, and the process's signals."""
    # Libraries for numbers and Tesseract start no threads of their own: a child is one of several.
    os.environ.update({"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    for path in options.tessdata:
        os.environ["TESSDATA_PREFIX"] = str(path)
    if options.command is not None:
        os.environ.update({"PATH": str(options.command.parent), "TMPDIR": str(options.temporary)})
    sys.dont_write_bytecode = True
    # Ctrl-C signals the whole process group, but the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_before_parent()


def _run(tasks: dict[str, str], request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    try:
        with ExitStack() as stack:
            for (name, access), descriptor in zip(request["files"].items(), descriptors, strict=True):
                request["arguments"][name] = stack.enter_context(os.fdopen(descriptor, MODES[access]))
            return {"ok": _load(tasks[request["task"]])(**request["arguments"])}
    except MemoryError:
        return _out_of_memory()
    except PermanentFailure as failure:
        return _failure("permanent", failure.code, failure.text)
    except (StageFailure, TransientFailure) as failure:
        return _failure("transient", failure.code, failure.text)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            # This process reached its own limit, as with MemoryError: the image is the cause, not the machine.
            return _out_of_memory()
        if isinstance(error, OSError) and error.errno in EXHAUSTED_ERRNOS:
            return {"exhausted": error.errno}
        # The parent limits and logs what is printed here. The client gets only the code.
        traceback.print_exc(limit=-5)
        failed = _failure("transient", "internal-error", "The stage failed unexpectedly.")
        return {**failed, "error": type(error).__name__}


def _out_of_memory() -> dict[str, Any]:
    return _failure("permanent", "out-of-memory", "The image needs more memory than a worker may use.")


def _failure(kind: str, code: str, text: str) -> dict[str, Any]:
    return {"failure": {"kind": kind, "code": code, "text": text}}


def _load(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _die_before_parent() -> None:
    """Make the kernel kill this process instead of its parent when memory runs out."""
    if sys.platform == "linux":
        # Raising its own score needs no privilege, but a container may hide the file.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
