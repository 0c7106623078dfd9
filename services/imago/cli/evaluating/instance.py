"""A temporary `imago dev` that an evaluation asks, so that images take the way of every upload."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from imago.bootstrap.supervisor import die_with_parent
from imago.cli.errors import CommandError
from imago.cli.http_client import Target, admin_target
from imago.settings import Settings

START_SECONDS = 120.0
STOP_SECONDS = 30.0
_STARTED = "Press Ctrl-C to stop."

# Settings of an installation's own database, storage and ports, which a temporary instance must not use.
_INSTALLATION = ("DATABASE_", "NATS_", "STORAGE_", "S3_", "METRICS_", "PROMETHEUS_", "WORKER_LANES")


@dataclass(frozen=True)
class Instance:
    """A running instance: its administrator's access and the id of its process."""

    admin: Target
    pid: int


@asynccontextmanager
async def running_instance(settings: Settings) -> AsyncIterator[Instance]:
    """Start an instance with the settings of an installation and stop it afterwards; raise CommandError."""
    with tempfile.TemporaryDirectory(prefix="imago-evaluate-") as name:
        folder = Path(name)
        output = folder / "output.txt"
        process = await _start(instance_environment(os.environ, settings), folder, output)
        try:
            await _wait_started(process, output)
            yield Instance(admin_target(None, folder / "data", settings), process.pid)
        finally:
            await _stop(process)


def instance_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the variables that an instance inherits. It starts in another directory, so their paths are absolute."""
    inherited = {name: value for name, value in environment.items() if not name.upper().startswith(_INSTALLATION)}
    for name in inherited:
        value = getattr(settings, name.lower(), None)
        if isinstance(value, Path):
            inherited[name] = str(value.absolute())
    return inherited


async def _start(environment: Mapping[str, str], folder: Path, output: Path) -> asyncio.subprocess.Process:
    command = ["dev", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(folder / "data")]
    with output.open("wb") as stream:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "imago.cli.main",
            *command,
            env=environment,
            # `.env` is in the environment already; read here again, it would undo `instance_environment`.
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            # Ctrl-C ends this command, which then stops the instance.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


async def _wait_started(process: asyncio.subprocess.Process, output: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not _has_started(output):
                if process.returncode is not None:
                    raise CommandError(f"Imago did not start: {_last_line(output)}")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise CommandError(f"Imago did not start in {START_SECONDS:g} s: {_last_line(output)}") from None


def _has_started(output: Path) -> bool:
    return _STARTED in output.read_text(errors="replace")


def _last_line(output: Path) -> str:
    lines = output.read_text(errors="replace").split("\n")
    return next((line.removeprefix("imago: ") for line in reversed(lines) if line.strip()), "it printed nothing")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
