"""The processes of `imago dev`: started, started again when they die, and stopped."""

import asyncio
import contextlib
import ctypes
import signal
import sys
import time
from pathlib import Path

import click

from imago.telemetry.metrics import remove_process

# A process that lived longer than this was not broken from the start, so it is started again at once.
_HEALTHY_SECONDS = 10.0
_LONGEST_PAUSE = 10.0

_PR_SET_PDEATHSIG = 1


class Process:
    """One process, with its log in a file."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        environment: dict[str, str],
        log: Path,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = log
        self._pass_fds = pass_fds
        self._process: asyncio.subprocess.Process | None = None

    async def keep_running(self) -> None:
        """Start the process, and again whenever it ends, with growing pauses where it dies young."""
        pause = 0.0
        while True:
            started = time.monotonic()
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=self._pass_fds,
                    # Ctrl-C goes to the whole foreground group; here one process decides the order of ending.
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            code = await self._process.wait()
            remove_process(self._process.pid, self._environment.get("PROMETHEUS_MULTIPROC_DIR"))
            lived = time.monotonic() - started
            pause = 0.0 if lived > _HEALTHY_SECONDS else min(_LONGEST_PAUSE, pause * 2 or 0.5)
            click.echo(f"{self.name} ended with {code}, starting it again (see {self._log})", err=True)
            await asyncio.sleep(pause)

    async def stop(self, *, timeout: float) -> None:
        """Ask the process to end, and kill it when it takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def die_with_parent() -> None:
    """Have the kernel kill the calling process when its parent dies, however that comes (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
