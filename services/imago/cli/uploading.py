"""`imago upload`: concurrent uploads, with a progress bar and the state of the pipeline for each file."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import click
from rich.console import Console

from imago.cli.errors import CommandError
from imago.cli.http_client import ServerBusy, Target, request_json
from imago.cli.upload_progress import FileRow, UploadProgress, stages_state

MAX_CONCURRENT_UPLOADS = 4
CHUNK = 256 * 1024
POLL_SECONDS = 0.25
# How long to retry an upload while the API is busy: longer than a rolling update or a burst takes.
RETRY_SECONDS = 120.0

# The states of an image whose stages have all ended.
ENDED = frozenset({"done", "partial", "failed"})


@dataclass
class FileResult:
    """The outcome of one file."""

    path: Path
    uploaded: dict[str, Any] | None = None
    detail: dict[str, Any] | None = None
    error: str | None = None
    stages: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the upload was refused or a stage is dead."""
        return self.error is not None

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"path": str(self.path), "upload": self.uploaded, "image": self.detail, "error": self.error}


async def upload_all(target: Target, paths: Iterable[Path], *, wait: bool, timeout: float, as_json: bool) -> int:
    """Upload files and the contents of directories; return how many files failed."""
    files = list(_files(paths))
    if not files:
        raise CommandError("no files found")
    console = Console(stderr=True)
    gate = asyncio.Semaphore(MAX_CONCURRENT_UPLOADS)
    async with target.session() as session:
        with UploadProgress(len(files), console=console, shown=console.is_terminal and not as_json) as progress:
            jobs = [
                _upload_file(session, gate, progress.file(path.name), path, wait=wait, timeout=timeout)
                for path in files
            ]
            results = await asyncio.gather(*jobs)
    _report(results, as_json=as_json)
    return sum(result.failed for result in results)


async def _upload_file(
    session: aiohttp.ClientSession,
    gate: asyncio.Semaphore,
    row: FileRow,
    path: Path,
    *,
    wait: bool,
    timeout: float,
) -> FileResult:
    result = FileResult(path)
    try:
        async with gate:
            row.begin((await asyncio.to_thread(path.stat)).st_size)
            result.uploaded = await send_file(session, path, row)
        if wait:
            await _wait_for_stages(session, result, row, timeout=timeout)
    except (CommandError, OSError) as error:
        result.error = str(error) or type(error).__name__
    row.end("failed" if result.failed else "done" if wait else "uploaded", failed=result.failed)
    return result


async def send_file(session: aiohttp.ClientSession, path: Path, row: FileRow) -> dict[str, Any]:
    """Upload a file, retrying while the API is busy; all attempts share one key, so they create one image."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        form = aiohttp.MultipartWriter("form-data")
        form.append(
            _chunks(path, row),
            {"Content-Type": "application/octet-stream", "Content-Disposition": _disposition(path)},
        )
        try:
            return await request_json(session, "POST", "images/upload", data=form, headers=headers)
        except ServerBusy as busy:
            if time.monotonic() + busy.seconds > deadline:
                raise
            row.restart(f"retrying in {busy.seconds:g} s")
            await asyncio.sleep(busy.seconds)


def _disposition(path: Path) -> str:
    """Return the form header of a file with its exact name; aiohttp's own would percent-encode it."""
    raw = os.fsencode(path.name)
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = raw.decode("latin-1")
    # As browsers write it, for servers that don't know `filename*`.
    plain = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    return f'form-data; name="file"; filename="{plain}"; filename*=UTF-8\'\'{quote(name, safe="")}'


async def _chunks(path: Path, row: FileRow) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
            row.advance(len(chunk))


async def _wait_for_stages(session: aiohttp.ClientSession, result: FileResult, row: FileRow, *, timeout: float) -> None:
    """Wait until the image has ended; raise CommandError with what is missing after `timeout` seconds."""
    image = (result.uploaded or {})["id"]
    state = "no answer yet"
    deadline = time.monotonic() + timeout
    while True:
        pause = POLL_SECONDS
        try:
            document = await request_json(session, "GET", f"images/{image}/status")
            result.stages, state = document["stages"], stages_state(document)
            row.show(state)
            if document["status"] in ENDED:
                break
        except ServerBusy as busy:
            pause = busy.seconds
        if time.monotonic() + pause > deadline:
            raise CommandError(f"not finished after {timeout:g} s: {state}")
        await asyncio.sleep(pause)
    result.detail = await request_json(session, "GET", f"images/{image}")
    dead = {name: stage["error_code"] for name, stage in result.stages.items() if stage["status"] == "dead"}
    if dead:
        result.error = "; ".join(f"{name}: {code}" for name, code in dead.items())


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (found for found in sorted(path.rglob("*")) if found.is_file())
        else:
            yield path


def _report(results: Iterable[FileResult], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([result.to_json() for result in results], ensure_ascii=False, indent=2))
        return
    for result in results:
        if result.error:
            click.echo(f"{result.path}: {result.error}", err=True)
        elif result.detail:
            click.echo(f"{result.path}: image {result.detail['id']}, {_summary(result.detail)}")
        elif result.uploaded:
            click.echo(f"{result.path}: image {result.uploaded['id']}")


def _summary(detail: dict[str, Any]) -> str:
    parts = []
    camera = ((detail.get("exif") or {}).get("camera") or {}).get("model")
    if camera:
        parts.append(camera)
    text = (detail.get("ocr") or {}).get("text")
    if text:
        parts.append(f"text {' '.join(text.split())[:40]!r}")
    tags = (detail.get("ai") or {}).get("tags")
    if tags:
        parts.append(", ".join(tags))
    return "; ".join(parts) or detail["processing_status"]
