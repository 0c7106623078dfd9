"""What Python itself would print as plain text: warnings, and exceptions that nobody catches. They become log events.

Libraries warn about the content of files, with texts from them, as often as a crafted file makes them. Such warnings
are for programmers and are dropped. Others are logged once for each place in the code.
"""

import faulthandler
import re
import sys
import threading
import warnings
from pathlib import PurePath
from types import TracebackType
from typing import TextIO

import structlog

log = structlog.get_logger(__name__)

# A warning's text may repeat what a client sent.
_MAX_TEXT = 200
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")

# Signs of a bug: a coroutine that is not awaited, a file that is not closed.
_LOGGED = (RuntimeWarning, ResourceWarning)

_seen: set[tuple[str, int]] = set()


def log_stray_lines() -> None:
    """Log warnings and uncaught exceptions instead of printing them, for the rest of this process."""
    warnings.showwarning = _log_warning
    # Not `default`, which remembers every text, so that clients could fill the memory.
    warnings.simplefilter("ignore")
    for category in _LOGGED:
        warnings.simplefilter("always", category)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_thread
    # It prints no JSON. A crash is visible in the exit status only: processes that hold keys dump no core.
    faulthandler.disable()


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    if (filename, lineno) in _seen:
        return
    _seen.add((filename, lineno))
    place = "/".join(PurePath(filename).parts[-2:])
    text = _UNPRINTABLE.sub(" ", str(message))[:_MAX_TEXT]
    log.warning("python.warning", category=category.__name__, place=f"{place}:{lineno}", text=text)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.error("process.crashed", exc_info=(kind, error, trace))


def _log_thread(crashed: threading.ExceptHookArgs) -> None:
    if crashed.exc_value is not None and not isinstance(crashed.exc_value, SystemExit):
        name = crashed.thread.name if crashed.thread is not None else None
        log.error("thread.crashed", thread=name, exc_info=crashed.exc_value)


def _log_unraisable(failed: "sys.UnraisableHookArgs") -> None:
    log.error("finalizer.failed", object=type(failed.object).__name__, exc_info=failed.exc_value)
