"""The log files of `imago dev` on the terminal, each line with the name of its process."""

import asyncio
import json
import os
from pathlib import Path

import click

_POLL_SECONDS = 0.2
_COLORS = {"warning": "yellow", "error": "red", "critical": "red"}


async def follow_logs(directory: Path) -> None:
    """Print the lines that are appended to the log files of a directory from now on, until cancelled."""
    positions = await asyncio.to_thread(_sizes, directory)
    while True:
        for process, line in await asyncio.to_thread(_new_lines, directory, positions):
            _print_line(process, line)
        await asyncio.sleep(_POLL_SECONDS)


def _sizes(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in directory.glob("*.log")}


def _new_lines(directory: Path, positions: dict[Path, int]) -> list[tuple[str, str]]:
    """Return the complete new lines with the names of their processes, and advance the positions."""
    lines: list[tuple[str, str]] = []
    for path in sorted(directory.glob("*.log")):
        with path.open("rb") as file:
            # A file that is smaller than before was emptied.
            position = file.seek(min(positions.get(path, 0), file.seek(0, os.SEEK_END)))
            complete, newline, _ = file.read().rpartition(b"\n")
        positions[path] = position + len(complete + newline)
        lines += ((path.stem, line) for line in complete.decode(errors="replace").splitlines())
    return lines


def _print_line(process: str, line: str) -> None:
    try:
        event = json.loads(line)
        text, level = _readable(event), event.get("level", "")
    except (ValueError, AttributeError):
        text, level = line, ""
    click.echo(f"{process:<14} {click.style(text, fg=_COLORS.get(level))}", err=True)


def _readable(event: dict[str, object]) -> str:
    moment = str(event.pop("timestamp", ""))[11:23]
    head = f"{moment} {event.pop('level', ''):<7} {event.pop('event', '')}"
    return " ".join([head, *(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in event.items())])
