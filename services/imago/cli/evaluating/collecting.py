"""Uploads the images of a folder and collects what the API says of them."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console

from imago.cli.errors import CommandError
from imago.cli.evaluating.cpu_time import cpu_per_image, cpu_seconds
from imago.cli.evaluating.instance import Instance
from imago.cli.http_client import ServerBusy, Target, request_json
from imago.cli.upload_progress import UploadProgress
from imago.cli.uploading import ENDED, MAX_CONCURRENT_UPLOADS, send_file
from imago.evaluation.answers import Answers, ImageAnswer
from imago.evaluation.labels import Labels

Failures = dict[str, str]
"""Files that were not processed completely, and why."""

# All images of a client pass through the same processes, so waiting for the oldest waits for all.
_POLL_SECONDS = 0.25
_MAX_HITS = 200
_MAX_SIMILAR = 100
_LIMITS = {"requests_per_minute": 1_000_000, "burst": 1_000_000}


class Collector:
    """Asks an instance about the images of a folder: in English with all stages, in French only for their tags."""

    def __init__(self, instance: Instance, folder: Path, labels: Labels, *, timeout: float) -> None:
        self._instance = instance
        self._folder = folder
        self._labels = labels
        self._timeout = timeout
        self._failures: Failures = {}

    async def collect(self) -> tuple[Answers, Failures]:
        """Upload, wait and ask; `timeout` limits the seconds without an image that ends. Raises CommandError."""
        english = await self._client("en", ["exif", "ocr", "vision"])
        async with english.session() as session:
            images, cpu_ms = await self._process(session)
            details = {file: await request_json(session, "GET", f"images/{image}") for file, image in images.items()}
            searches = {query.q: await self._search(session, query.q, images) for query in self._labels.queries}
            similar = await self._similar(session, images)
        french = await self._french_tags(images)
        answers = {file: _answer(detail, french.get(file)) for file, detail in details.items()}
        return Answers(answers, searches, similar, cpu_ms), self._failures

    async def _client(self, language: str, stages: list[str]) -> Target:
        body = {
            "name": f"evaluation-{language}",
            "plan": "premium",
            "limits": _LIMITS,
            "pipeline": {"stages": stages, "description_language": language},
        }
        async with self._instance.admin.session() as session:
            created = await request_json(session, "POST", "auth/clients", json=body)
        return Target(self._instance.admin.url, created["api_key"])

    async def _process(self, session: aiohttp.ClientSession) -> tuple[dict[str, int], dict[str, float]]:
        """Process all images; return their ids and the CPU time per image.

        The first image is not measured, because models are loaded for it.
        """
        first, *others = self._labels.images
        images = await self._upload(session, [first], title="first image")
        before = await asyncio.to_thread(cpu_seconds, self._instance.pid)
        more = await self._upload(session, others, title="all images")
        after = await asyncio.to_thread(cpu_seconds, self._instance.pid)
        return {**images, **more}, cpu_per_image(before, after, len(more))

    async def _french_tags(self, images: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the tags of French descriptions, of the images whose labels judge tags."""
        files = [file for file in images if self._labels.images[file].objects is not None]
        if not files:
            return {}
        client = await self._client("fr", ["vision"])
        async with client.session() as session:
            ids = await self._upload(session, files, title="tags in French")
            return {file: _tags(await request_json(session, "GET", f"images/{image}")) for file, image in ids.items()}

    async def _upload(self, session: aiohttp.ClientSession, files: list[str], *, title: str) -> dict[str, int]:
        """Upload files and wait until their stages have ended; return the ids of their images."""
        gate = asyncio.Semaphore(MAX_CONCURRENT_UPLOADS)
        with self._progress(len(files), title) as progress:

            async def send(file: str) -> tuple[str, int | None]:
                row = progress.file(file)
                async with gate:
                    path = self._folder / file
                    row.begin(path.stat().st_size)
                    try:
                        uploaded = await send_file(session, path, row)
                    except (CommandError, OSError) as error:
                        self._failures[file] = str(error)
                        row.end("failed", failed=True)
                        return file, None
                row.end("uploaded", failed=False)
                return file, uploaded["id"]

            sent = await asyncio.gather(*map(send, files))
            images = {file: image for file, image in sent if image is not None}
            for file, image in images.items():
                await self._wait_ended(session, file, image)
        return images

    async def _wait_ended(self, session: aiohttp.ClientSession, file: str, image: int) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                document = await request_json(session, "GET", f"images/{image}/status")
                if document["status"] in ENDED:
                    break
            except ServerBusy as busy:
                await asyncio.sleep(busy.seconds)
            if time.monotonic() > deadline:
                raise CommandError(f"{file}: not processed after {self._timeout:g} s")
            await asyncio.sleep(_POLL_SECONDS)
        dead = [
            f"{name}: {stage['error_code']}" for name, stage in document["stages"].items() if stage["status"] == "dead"
        ]
        if dead:
            self._failures[file] = "; ".join(dead)

    async def _search(self, session: aiohttp.ClientSession, words: str, images: Mapping[str, int]) -> tuple[str, ...]:
        page = await request_json(session, "GET", "images", params={"q": words, "limit": str(_MAX_HITS)})
        return _files(page["items"], images)

    async def _similar(self, session: aiohttp.ClientSession, images: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
        if not any(labels.same_as for labels in self._labels.images.values()):
            return {}
        found: dict[str, tuple[str, ...]] = {}
        for file, image in images.items():
            page = await request_json(session, "GET", f"images/{image}/similar", params={"limit": str(_MAX_SIMILAR)})
            found[file] = _files(page["items"], images)
        return found

    def _progress(self, files: int, title: str) -> AbstractContextManager[UploadProgress]:
        console = Console(stderr=True)
        if console.is_terminal:
            click.echo(title, err=True)
        return UploadProgress(files, console=console, shown=console.is_terminal)


def _files(items: Iterable[dict[str, Any]], images: Mapping[str, int]) -> tuple[str, ...]:
    names = {image: file for file, image in images.items()}
    return tuple(names[item["id"]] for item in items if item["id"] in names)


def _answer(detail: dict[str, Any], french: tuple[str, ...] | None) -> ImageAnswer:
    ocr, place = detail.get("ocr") or {}, (detail.get("exif") or {}).get("place") or {}
    return ImageAnswer(
        text=ocr.get("text", ""),
        confidence=ocr.get("confidence", 0.0),
        tags={"en": _tags(detail), **({} if french is None else {"fr": french})},
        place=place.get("name"),
        country_code=place.get("country_code"),
    )


def _tags(detail: dict[str, Any]) -> tuple[str, ...]:
    return tuple((detail.get("ai") or {}).get("tags", ()))
