"""A pool of long-lived child processes for decoding and OCR. A child that dies or is killed is replaced."""

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

# The largest response is a page of text.
_MAX_RESPONSE = 16 * 2**20

# A child that decodes untrusted bytes gets no other variable, because the worker's environment has secrets.
_PASSED_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "TESSDATA_PREFIX", "LD_LIBRARY_PATH", "PYTHONPATH")

_time_limit: ContextVar[asyncio.Timeout | None] = ContextVar("time_limit", default=None)


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Limit the time of a block like `asyncio.timeout`, but don't count the time it waits for an idle child.

    A worker has more jobs than children, and the duration of other jobs must not count against this one.
    """
    async with asyncio.timeout(seconds) as timeout:
        token = _time_limit.set(timeout)
        try:
            yield
        finally:
            _time_limit.reset(token)


class ChildPool:
    """Runs tasks of `imago.imaging.sandbox.child`, one per child concurrently.

    If a child crashes, or exceeds its CPU seconds or its time limit, it is replaced and the task fails as transient.
    The worker is not affected, and the limit of attempts keeps a file that kills children from being retried forever.
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
        # None is a child that has not been started yet.
        self._idle: asyncio.LifoQueue[asyncio.subprocess.Process | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._idle.put_nowait(None)
        self._alive: set[asyncio.subprocess.Process] = set()

    async def run(self, task: str, arguments: dict[str, Any], *, timeout: float) -> Any:
        """Run a task and return its result; raise PermanentFailure or TransientFailure.

        Raises OSError if the machine lacks processes, memory or disk space, which is not the image's fault.
        """
        child = await self._acquire()
        try:
            if child is None or child.returncode is not None:
                child = await self._start()
            try:
                async with asyncio.timeout(timeout):
                    response = await _exchange(child, {"task": task, "arguments": arguments})
            except TimeoutError:
                raise TransientFailure("stage-timeout", f"The stage took longer than {timeout:g} s.") from None
            except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
                raise await self._exit_failure(child, task) from None
        except BaseException:
            # The child may still be working on a task whose result is not needed any more, so it is replaced.
            if child is not None:
                await asyncio.shield(self._kill(child))
            child = None
            raise
        finally:
            self._idle.put_nowait(child)
        return _result(response)

    async def close(self) -> None:
        """Kill all children."""
        for child in tuple(self._alive):
            await self._kill(child)

    async def _acquire(self) -> asyncio.subprocess.Process | None:
        timeout = _time_limit.get()
        deadline = timeout.when() if timeout is not None and not timeout.expired() else None
        if timeout is None or deadline is None:
            return await self._idle.get()
        started = time.monotonic()
        timeout.reschedule(None)
        try:
            return await self._idle.get()
        finally:
            timeout.reschedule(deadline + time.monotonic() - started)

    async def _start(self) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_MAX_RESPONSE,
            env={
                "OMP_THREAD_LIMIT": "1",
                **{name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ},
            },
        )
        self._alive.add(child)
        return child

    async def _kill(self, child: asyncio.subprocess.Process) -> None:
        self._alive.discard(child)
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()

    async def _exit_failure(self, child: asyncio.subprocess.Process, task: str) -> TransientFailure:
        code = await child.wait()
        cause = signal.Signals(-code).name if code < 0 else f"exit {code}"
        metrics.CHILD_EXITS.labels(cause).inc()
        log.warning("child.died", task=task, cause=cause)
        if code == -signal.SIGXCPU:
            return TransientFailure("cpu-limit", "The image needs more computing time than a worker may use.")
        return TransientFailure("child-died", "The process that worked on the image died.")


async def _exchange(child: asyncio.subprocess.Process, request: dict[str, Any]) -> Any:
    if child.stdin is None or child.stdout is None:
        raise BrokenPipeError
    body = json.dumps(request).encode()
    child.stdin.write(struct.pack(">I", len(body)) + body)
    await child.stdin.drain()
    length = struct.unpack(">I", await child.stdout.readexactly(4))[0]
    if length > _MAX_RESPONSE:
        raise BrokenPipeError
    return json.loads(await child.stdout.readexactly(length))


def _result(response: Any) -> Any:
    if "ok" in response:
        return response["ok"]
    if "exhausted" in response:
        code = int(response["exhausted"])
        raise OSError(code, os.strerror(code))
    failure = response["failure"]
    kind = PermanentFailure if failure["kind"] == "permanent" else TransientFailure
    raise kind(str(failure["code"]), str(failure["text"]))
