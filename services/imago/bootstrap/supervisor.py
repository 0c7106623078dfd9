"""The child processes of `imago dev`: started, restarted when they exit, and stopped."""

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

import click

from imago.imaging.sandbox import libc
from imago.telemetry.metrics import remove_process

# A process that lived longer than this was healthy, so it is restarted immediately.
_HEALTHY_SECONDS = 10.0
_MAX_RESTART_DELAY = 10.0


class SupervisedProcess:
    """One process, which logs to a file."""

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
        """Start the process and restart it whenever it exits, with growing delays if it exits early."""
        delay = 0.0
        while True:
            started = time.monotonic()
            self._process = await self._start()
            code = await self._process.wait()
            remove_process(self._process.pid, self._environment.get("PROMETHEUS_MULTIPROC_DIR"))
            lived = time.monotonic() - started
            delay = 0.0 if lived > _HEALTHY_SECONDS else min(_MAX_RESTART_DELAY, delay * 2 or 0.5)
            click.echo(f"{self.name} exited with code {code}, restarting (see {self._log})", err=True)
            await asyncio.sleep(delay)

    async def stop(self, *, timeout: float) -> None:
        """Terminate the process, and kill it after `timeout` seconds."""
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

    async def _start(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._pass_fds,
                # Ctrl-C reaches the whole foreground group, but the supervisor decides the order of stopping.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )


def die_with_parent() -> None:
    """Have the kernel kill the calling process when its parent dies for any reason (Linux)."""
    if sys.platform == "linux":
        libc.die_with_parent(signal.SIGKILL)
