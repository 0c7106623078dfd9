"""One child process: its start, its requests, the CPU time it used, and its end."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imago.imaging.sandbox.channel import HEAD, MAX_REQUEST
from imago.imaging.sandbox.libc import NOBODY
from imago.imaging.sandbox.output import ChildOutput, TaskOutput

# The import path comes as an argument, because the environment is empty.
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from imago.imaging.sandbox.child import main; main()"
)

# Where the dynamic linker finds libraries in other places than its own. It is read before the program starts.
_PASSED_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_START_SECONDS = 60.0

# The largest response is a page of text.
_MAX_RESPONSE = 16 * 2**20


class ChildEnded(Exception):
    """The process ended during a task; `status` is its exit code, or minus the number of the signal."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class _ChannelClosed(Exception):
    """The child has ended, or sent something else than a message."""


class ChildProcess:
    """A started child. It runs one request at a time."""

    def __init__(
        self, process: asyncio.subprocess.Process, channel: socket.socket, output: ChildOutput, temporary: Path | None
    ) -> None:
        self._process = process
        self._channel = channel
        self._output = output
        self._temporary = temporary

    @classmethod
    async def start(cls, options: Sequence[str], *, command: Path | None) -> "ChildProcess":
        """Start a process and wait until it has given up its rights; raise OSError."""
        temporary = _make_temporary() if command else None
        if command:
            options = [*options, "--command", str(command), "--temporary", str(temporary)]
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        output = ChildOutput()
        try:
            # Commands that the child starts stay in its group, and are killed with it.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-X", "utf8", "-c", _BOOTSTRAP, _import_path(), *options),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=output.writer,
                env={name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            output.start()
            output.close()
            await _remove(temporary)
            raise
        finally:
            theirs.close()
        output.start()
        child = cls(process, ours, output, temporary)
        await child._wait_ready()
        return child

    @property
    def is_usable(self) -> bool:
        """Whether the process can run another task: it lives, and did not print too much."""
        return self._process.returncode is None and not self._output.is_closed

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used; 0 where the system doesn't tell."""
        if sys.platform != "linux":
            return 0.0
        with contextlib.suppress(OSError):
            # The clock of another process, as `clock_getcpuclockid` makes it (clock_getcpuclockid(3)).
            return time.clock_gettime((~self._process.pid << 3) | 2)
        return 0.0

    def is_runnable(self) -> bool:
        """Return whether the process computes or waits for a CPU; False where the system doesn't tell."""
        with contextlib.suppress(OSError):
            # The state is the first field after the name, which is in parentheses (proc_pid_stat(5)).
            return Path(f"/proc/{self._process.pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"R")
        return False

    async def exchange(self, request: Mapping[str, Any], descriptors: list[int]) -> Any:
        """Send a request and return its response; raise ChildEnded."""
        try:
            await _send_request(self._channel, request, descriptors)
            return await _receive_response(self._channel)
        except _ChannelClosed:
            # It may live on, if it was the one to close the channel.
            self._signal(signal.SIGTERM)
            raise ChildEnded(await self._process.wait()) from None

    def take_output(self) -> TaskOutput:
        """Return what the process has printed since the last call."""
        return self._output.take()

    async def kill(self) -> None:
        """Kill the process and what it has started."""
        self._signal(signal.SIGKILL)
        await self._process.wait()
        self._channel.close()
        self._output.close()
        await _remove(self._temporary)

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _receive_response(self._channel)
        except (_ChannelClosed, TimeoutError):
            output = self.take_output()
            await self.kill()
            # Like a machine that starts no process: not the image's fault.
            raise OSError(errno.EAGAIN, f"a child process did not start: {output.excerpt}") from None
        except BaseException:
            await asyncio.shield(self.kill())
            raise

    def _signal(self, number: signal.Signals) -> None:
        # The number of a process that has ended may be another's. Only a command can have survived the child.
        if self._process.returncode is not None and self._temporary is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _import_path() -> str:
    return json.dumps([str(Path(entry).absolute()) for entry in sys.path])


def _make_temporary() -> Path:
    path = Path(tempfile.mkdtemp(prefix="imago-ocr-"))
    if os.geteuid() == 0:
        # A process that may not change owners can't change its child's user either.
        with contextlib.suppress(PermissionError):
            os.chown(path, NOBODY, NOBODY)
    return path


async def _remove(directory: Path | None) -> None:
    if directory is not None:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _send_request(channel: socket.socket, request: Mapping[str, Any], descriptors: list[int]) -> None:
    body = json.dumps(request).encode()
    if len(body) > MAX_REQUEST:
        raise ValueError("the request is too long")
    data = HEAD.pack(len(body)) + body
    try:
        # The child has read all earlier requests, so the buffer has space for the descriptors and usually for all.
        sent = socket.send_fds(channel, [data], descriptors)
        if sent < len(data):
            await asyncio.get_running_loop().sock_sendall(channel, data[sent:])
    except OSError as error:
        raise _ChannelClosed from error


async def _receive_response(channel: socket.socket) -> Any:
    """Receive the next response. Descriptors that the child may send along are closed by the kernel."""
    data = bytearray()
    length = _MAX_RESPONSE
    while len(data) < HEAD.size + length:
        try:
            piece = await asyncio.get_running_loop().sock_recv(channel, 2**16)
        except OSError as error:
            raise _ChannelClosed from error
        data += piece
        if len(data) >= HEAD.size:
            (length,) = HEAD.unpack_from(data)
        if not piece or length > _MAX_RESPONSE:
            raise _ChannelClosed
    try:
        return json.loads(data[HEAD.size :])
    except ValueError as error:
        raise _ChannelClosed from error
