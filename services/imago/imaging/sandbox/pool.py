"""A pool of long-lived child processes for decoding and OCR. A child that dies or is killed is replaced."""

import asyncio
import contextlib
import errno
import os
import re
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import structlog

from imago.core.jobs.failures import EXHAUSTED_ERRNOS, PermanentFailure, StageFailure, TransientFailure
from imago.imaging import cpu_limit
from imago.imaging.sandbox import libc
from imago.imaging.sandbox.process import ChildEnded, ChildProcess
from imago.imaging.sandbox.seats import Seats
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

_time_limit: ContextVar[asyncio.Timeout | None] = ContextVar("time_limit", default=None)
_client: ContextVar[Hashable] = ContextVar("client", default=None)

# The longest interval of checking the CPU time of a task.
_CPU_CHECK_SECONDS = 0.5

# A task that times out after having computed for this part of the time would time out on an idle machine, too.
_OWN_FAULT = 0.5

# How much later a task may end that waits for a CPU, in time limits. To end it earlier would only repeat its work on a
# machine that is too busy already.
_MAX_WAIT = 4

_NO_FILES: Mapping[str, Path] = {}
_ERROR_NAME = re.compile(r"[A-Za-z_]{1,64}")
# The codes and texts of failures, which clients see and metrics have as a label.
_CODE = re.compile(r"[a-z][a-z-]{1,39}")
_MAX_TEXT = 300


@asynccontextmanager
async def time_limit(seconds: float, *, client: Hashable = None) -> AsyncIterator[None]:
    """Limit the time of a block like `asyncio.timeout`, but don't count the time it waits for a child or for a CPU.

    A worker has more jobs than children, and other jobs, the start of a child and a busy machine must not count against
    this one. `client` is whose job the block does: children are shared among clients.
    """
    async with asyncio.timeout(seconds) as timeout:
        tokens = _time_limit.set(timeout), _client.set(client)
        try:
            yield
        finally:
            _time_limit.reset(tokens[0])
            _client.reset(tokens[1])


@contextmanager
def _clock_stopped() -> Iterator[None]:
    """Don't count the time of a block against the `time_limit` around it."""
    timeout = _time_limit.get()
    deadline = timeout.when() if timeout is not None and not timeout.expired() else None
    if timeout is None or deadline is None:
        yield
        return
    started = time.monotonic()
    timeout.reschedule(None)
    try:
        yield
    finally:
        timeout.reschedule(deadline + time.monotonic() - started)


class ChildPool:
    """Runs tasks of `imago.imaging.sandbox.child`, one per child concurrently.

    If a child crashes or exceeds its time limit, it is replaced and the task fails as transient. A task that exceeds
    its CPU seconds fails permanently: they don't depend on the machine's load. The worker is not affected, and the
    limit of attempts keeps a file that kills children from being retried forever.

    `readable` are directories of an engine's data, and `command` is the program of an engine that is one.
    """

    def __init__(
        self,
        *,
        size: int,
        memory_mb: int,
        cpu_seconds: float,
        extra_tasks: tuple[str, ...] = (),
        readable: tuple[Path, ...] = (),
        command: Path | None = None,
    ) -> None:
        self.size = size
        self._cpu_seconds = cpu_seconds
        self._command = command
        self._options = [
            "--memory-mb",
            str(memory_mb),
            *(part for task in extra_tasks for part in ("--task", task)),
            *(part for path in readable for part in ("--read", str(path))),
        ]
        self._seats = Seats(size)
        self._idle: list[ChildProcess] = []
        self._alive: set[ChildProcess] = set()
        if sys.platform == "linux":
            # A child must not read this process's keys, on kernels without Landlock, too.
            libc.hide_memory()

    async def run(
        self,
        task: str,
        arguments: dict[str, Any],
        *,
        timeout: float,
        reads: Mapping[str, Path] = _NO_FILES,
        writes: Mapping[str, Path] = _NO_FILES,
        cpu_seconds: float | None = None,
    ) -> Any:
        """Run a task and return its result; raise PermanentFailure or TransientFailure.

        The task gets the files `reads` and `writes` open, as the arguments of these names. `cpu_seconds` replaces the
        pool's own limit if it is lower. Raises OSError if the machine lacks processes, memory or disk space, which is
        not the image's fault.
        """
        budget = min(self._cpu_seconds, cpu_seconds or self._cpu_seconds)
        client = _client.get()
        with _clock_stopped():
            await self._seats.acquire(client)
        try:
            with _clock_stopped():
                child = await self._idle_child()
            try:
                response = await self._work(
                    child, task, arguments, reads=reads, writes=writes, timeout=timeout, budget=budget
                )
            except BaseException:
                # It may still be working on a task whose result is not needed any more.
                await asyncio.shield(self._kill(child))
                raise
            await self._keep(child)
        finally:
            self._seats.release(client)
        return read_result(task, response)

    async def close(self) -> None:
        """Kill all children."""
        for child in tuple(self._alive):
            await self._kill(child)

    async def _idle_child(self) -> ChildProcess:
        """Return a child that waits for a task, the one that worked last, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if child.is_usable:
                return child
            await self._kill(child)
        options = [*self._options, *_tessdata()]
        started = await ChildProcess.start(options, command=self._command)
        self._alive.add(started)
        return started

    async def _keep(self, child: ChildProcess) -> None:
        """Keep a child for the next task, unless it is the one more that a client without a child got."""
        if len(self._idle) < self.size and self._seats.taken <= self.size and child.is_usable:
            self._idle.append(child)
        else:
            await asyncio.shield(self._kill(child))

    async def _work(
        self,
        child: ChildProcess,
        task: str,
        arguments: dict[str, Any],
        *,
        reads: Mapping[str, Path],
        writes: Mapping[str, Path],
        timeout: float,
        budget: float,
    ) -> Any:
        with _opened(reads, writes) as descriptors:
            files = {**dict.fromkeys(reads, "read"), **dict.fromkeys(writes, "write")}
            request = {"task": task, "arguments": arguments, "files": files}
            exchange = child.exchange(request, descriptors)
            return await self._watched(child, task, exchange, timeout=timeout, budget=budget)

    async def _kill(self, child: ChildProcess) -> None:
        self._alive.discard(child)
        await child.kill()

    async def _watched(
        self, child: ChildProcess, task: str, exchange: Awaitable[Any], *, timeout: float, budget: float
    ) -> Any:
        """Wait for a response, within a limit of time and one of CPU time."""
        limits = _Limits(child, timeout=timeout, budget=budget)
        try:
            async with limits.scope:
                limits.check()
                return await exchange
        except TimeoutError:
            raise limits.failure or TransientFailure("stage-timeout", "The stage took too long.") from None
        except ChildEnded as ended:
            raise _exit_failure(ended.status, task) from None
        finally:
            limits.close()
            _log_output(child, task)


class _Limits:
    """Checks the time and the CPU time of a task periodically, and ends `scope` when one is used up.

    Time for which the task could have computed, but other processes had the CPUs, is not counted. A timer costs a fast
    task nothing; a second asyncio task would cost its parent a millisecond.
    """

    def __init__(self, child: ChildProcess, *, timeout: float, budget: float) -> None:
        self.scope = asyncio.timeout(None)
        self.failure: StageFailure | None = None
        self._child = child
        self._timeout = timeout
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout
        self._used_before = child.cpu_seconds()
        self._checked = self._loop.time(), 0.0
        self._last_deadline = self._deadline + _MAX_WAIT * timeout
        self._timer: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """End the scope if a limit is reached; otherwise check again later."""
        used = self._child.cpu_seconds() - self._used_before
        self._allow_waiting(used)
        remaining = self._deadline - self._loop.time()
        if used >= self._budget or remaining <= 0:
            self.failure = _limit_failure(used=used, budget=self._budget, timeout=self._timeout)
            self.scope.reschedule(self._loop.time())
        else:
            pause = min(remaining, max(self._budget - used, 0.01), _CPU_CHECK_SECONDS)
            self._timer = self._loop.call_later(pause, self.check)

    def _allow_waiting(self, used: float) -> None:
        now, (checked, used_before) = self._loop.time(), self._checked
        self._checked = now, used
        if not self._child.is_runnable():
            return
        waited = max(now - checked - (used - used_before), 0.0)
        more = min(waited, self._last_deadline - self._deadline)
        self._deadline += more
        outer = _time_limit.get()
        if outer is not None and not outer.expired() and (deadline := outer.when()) is not None:
            outer.reschedule(deadline + more)

    def close(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()


def _limit_failure(*, used: float, budget: float, timeout: float) -> PermanentFailure | TransientFailure:
    if used >= budget:
        return PermanentFailure("cpu-limit", f"The image needs more than {budget:.3g} s of computing time.")
    if used >= _OWN_FAULT * timeout:
        return PermanentFailure("cpu-limit", f"The image took {used:.3g} s of computing time in {timeout:g} s.")
    return TransientFailure("stage-timeout", f"The stage took longer than {timeout:g} s.")


def _exit_failure(status: int, task: str) -> StageFailure:
    if status == -cpu_limit.SIGNAL:
        return PermanentFailure("cpu-limit", "The image needs more computing time than a worker may use.")
    cause = signal.Signals(-status).name if status < 0 else f"exit {status}"
    metrics.CHILD_EXITS.labels(cause).inc()
    log.warning("child.died", task=task, cause=cause)
    return TransientFailure("child-died", "The process that worked on the image died.")


def _log_output(child: ChildProcess, task: str) -> None:
    output = child.take_output()
    if output.size:
        log.info("child.output", task=task, bytes=output.size, limited=output.is_cut)
        log.debug("child.output-excerpt", task=task, excerpt=output.excerpt)


def _tessdata() -> tuple[str, ...]:
    """Return the option of a child for TESSDATA_PREFIX, which is absolute: a child has another working directory."""
    prefix = os.environ.get("TESSDATA_PREFIX")
    return ("--tessdata", str(Path(prefix).absolute())) if prefix else ()


@contextmanager
def _opened(reads: Mapping[str, Path], writes: Mapping[str, Path]) -> Iterator[list[int]]:
    """Open the files of a task. A link in place of one is not followed."""
    with contextlib.ExitStack() as stack:
        descriptors = []
        for open_file, paths in ((_open_input, reads.values()), (_open_output, writes.values())):
            for path in paths:
                descriptors.append(open_file(path))
                stack.callback(os.close, descriptors[-1])
        yield descriptors


def _open_input(path: Path) -> int:
    missing = PermanentFailure("original-missing", "The stored image is gone.")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            raise missing from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise missing
    return descriptor


def _open_output(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def read_result(task: str, response: Any) -> Any:
    """Return the result in a child's response; raise StageFailure. A child that was taken over may send anything."""
    match response:
        case {"ok": result}:
            return result
        case {"exhausted": int(code)} if code in EXHAUSTED_ERRNOS:
            raise OSError(code, os.strerror(code))
        case {"failure": {"kind": kind, "code": str(name), "text": str(text)}} if _CODE.fullmatch(name):
            if _ERROR_NAME.fullmatch(str(response.get("error", ""))):
                log.warning("child.task-failed", task=task, error=response["error"])
            failed = PermanentFailure if kind == "permanent" else TransientFailure
            raise failed(name, text[:_MAX_TEXT])
    raise TransientFailure("child-died", "The process that worked on the image died.")
