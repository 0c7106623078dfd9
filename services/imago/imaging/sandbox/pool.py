"""Child processes for decoding and OCR: a few long-lived ones, each replaced when it dies or is killed."""

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import structlog

from imago.core.jobs.failures import PermanentFailure, TransientFailure
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

# An answer holds at most a page of text.
_MAX_ANSWER = 16 * 2**20

_deadline: ContextVar[asyncio.Timeout | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Bound a block as `asyncio.timeout` does, but for what it waits for its turn with a child process.

    A worker holds more jobs than it has children. How long the others' images take must not count against this one.
    """
    async with asyncio.timeout(seconds) as deadline:
        token = _deadline.set(deadline)
        try:
            yield
        finally:
            _deadline.reset(token)


class ChildPool:
    """Runs tasks of `imago.imaging.sandbox.child`, as many at once as there are children.

    A child that crashes, runs out of CPU seconds or exceeds its time is gone, and the task fails as transient: the
    worker itself is never touched, and the stage's count of tries keeps a poisonous file from looping.
    """

    def __init__(self, *, size: int, memory_mb: int, cpu_seconds: int, extra_tasks: tuple[str, ...] = ()) -> None:
        self.size = size
        self._command = [
            sys.executable,
            "-m",
            "imago.imaging.sandbox.child",
            "--memory-mb",
            str(memory_mb),
            "--cpu-seconds",
            str(cpu_seconds),
            *(part for task in extra_tasks for part in ("--task", task)),
        ]
        self._idle: asyncio.LifoQueue[asyncio.subprocess.Process | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._idle.put_nowait(None)
        self._alive: set[asyncio.subprocess.Process] = set()

    async def run(self, task: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Run a task and return what it returned; raise PermanentFailure or TransientFailure.

        Raises OSError where this machine has no process or no room for the task; that is no fault of the image.
        """
        child = await self._turn()
        try:
            if child is None or child.returncode is not None:
                child = await self._start()
            try:
                async with asyncio.timeout(timeout):
                    answer = await _exchange(child, {"task": task, "arguments": arguments})
            except TimeoutError:
                raise TransientFailure("stage-timeout", f"The stage took longer than {timeout:g} s.") from None
            except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
                raise await self._post_mortem(child, task) from None
        except BaseException:
            # Whatever the child was doing, its answer is no longer wanted: another one takes its place.
            if child is not None:
                await asyncio.shield(self._kill(child))
            child = None
            raise
        finally:
            self._idle.put_nowait(child)
        return _result(answer)

    async def _turn(self) -> asyncio.subprocess.Process | None:
        deadline = _deadline.get()
        when = deadline.when() if deadline is not None and not deadline.expired() else None
        if deadline is None or when is None:
            return await self._idle.get()
        began = time.monotonic()
        deadline.reschedule(None)
        try:
            return await self._idle.get()
        finally:
            deadline.reschedule(when + time.monotonic() - began)

    async def close(self) -> None:
        """Kill all children."""
        for child in tuple(self._alive):
            await self._kill(child)

    async def _start(self) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_MAX_ANSWER,
            # No secret of the worker's is in the environment of what decodes hostile bytes.
            env={
                "OMP_THREAD_LIMIT": "1",
                **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            },
        )
        self._alive.add(child)
        return child

    async def _kill(self, child: asyncio.subprocess.Process) -> None:
        self._alive.discard(child)
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()

    async def _post_mortem(self, child: asyncio.subprocess.Process, task: str) -> TransientFailure:
        code = await child.wait()
        cause = signal.Signals(-code).name if code < 0 else f"exit {code}"
        metrics.CHILD_EXITS.labels(cause).inc()
        log.warning("a child process died", task=task, cause=cause)
        if code == -signal.SIGXCPU:
            return TransientFailure("cpu-limit", "The image needs more computing time than a worker may use.")
        return TransientFailure("child-died", "The process that worked on the image died.")


_PASSED_ON = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "TESSDATA_PREFIX", "LD_LIBRARY_PATH", "PYTHONPATH")


async def _exchange(child: asyncio.subprocess.Process, request: dict[str, Any]) -> Any:
    if child.stdin is None or child.stdout is None:
        raise BrokenPipeError
    body = json.dumps(request).encode()
    child.stdin.write(struct.pack(">I", len(body)) + body)
    await child.stdin.drain()
    length = struct.unpack(">I", await child.stdout.readexactly(4))[0]
    if length > _MAX_ANSWER:
        raise BrokenPipeError
    return json.loads(await child.stdout.readexactly(length))


def _result(answer: Any) -> Any:
    if "ok" in answer:
        return answer["ok"]
    if "exhausted" in answer:
        code = int(answer["exhausted"])
        raise OSError(code, os.strerror(code))
    failure = answer["failure"]
    kind = PermanentFailure if failure["kind"] == "permanent" else TransientFailure
    raise kind(str(failure["code"]), str(failure["text"]))
