"""Send hostile files through the upload path and the whole pipeline of an instance, and report the outcome.

`python -m tests.faults.corpus FOLDER --mutants 4000`: every file of the folder, and mutated copies of our own photos.
Exits with 1 if a file was not looked at, got a 5xx, killed a process that must live, left an image that never ended, or
if a stage took too long or a process too much memory. Ctrl-C reports about the files sent so far.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from devtools.instance import Instance
from devtools.waiting import until
from tests.faults.corpus_report import ENDED, Attempt, Outcome, attempts_of, report, write_outcomes
from tests.faults.mutants import mutants
from tests.faults.process_memory import Watch, watch_processes

PARALLEL = 8
BUSY_TRIES = 30

# A worker claims only as many runs as it has child processes, so that an attempt does not wait for one.
JOBS = "2"

# The answers of a server that is busy; they say nothing about the file.
_BUSY = (429, 503)

# Above what this tool can send.
_NO_LIMITS = {
    "requests_per_minute": 10_000_000,
    "burst": 10_000_000,
    "storage_bytes": 2**50,
    "images": 2**40,
    "ai_calls_per_month": 2**40,
}


@dataclass
class Source:
    """The files to send, and how many there are."""

    folder: Path | None
    limit: int | None
    mutants: int
    seed: int
    found: int = field(init=False)

    def __post_init__(self) -> None:
        everything = sorted(path for path in self.folder.rglob("*") if path.is_file()) if self.folder else []
        self._paths = everything[: self.limit]
        self.found = len(self._paths) + self.mutants
        self._stopped = False

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Yield the names and contents, those of the folder and then mutants, until `stop`."""
        for name, data in self._everything():
            if self._stopped:
                return
            yield name, data

    def stop(self) -> None:
        """Yield no more files: the report is about those sent, and misses the rest."""
        self._stopped = True

    def _everything(self) -> Iterator[tuple[str, bytes]]:
        for path in self._paths:
            yield str(path.relative_to(self.folder or Path())), path.read_bytes()
        yield from mutants(self.mutants, self.seed)


async def send_all(instance: Instance, source: Source, folder: Path) -> list[Outcome]:
    """Send every file and wait until every image has ended; every 500 files, write the outcomes so far to `folder`."""
    outcomes: list[Outcome] = []
    files = iter(source)
    timeout = aiohttp.ClientTimeout(total=300)
    base = f"http://127.0.0.1:{instance.port}"
    async with aiohttp.ClientSession(base, headers={"X-API-Key": instance.key}, timeout=timeout) as session:

        async def sender() -> None:
            for name, data in files:
                outcomes.append(await _send(session, name, data))
                if len(outcomes) % 500 == 0:
                    print(f"{len(outcomes)} of {source.found} files sent", file=sys.stderr, flush=True)
                    write_outcomes(outcomes, folder)

        await asyncio.gather(*(sender() for _ in range(PARALLEL)))
    return outcomes


async def _send(session: aiohttp.ClientSession, name: str, data: bytes) -> Outcome:
    outcome = Outcome(name)
    for _ in range(BUSY_TRIES):
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("file", data, filename=Path(name).name, content_type="application/octet-stream")
        began = time.monotonic()
        try:
            async with session.post("/images/upload", data=form) as answer:
                body = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            outcome.code = type(error).__name__
            return outcome
        outcome.status, outcome.upload_seconds = answer.status, time.monotonic() - began
        outcome.code = body.get("code", "")
        if answer.status not in _BUSY:
            break
        await asyncio.sleep(min(float(answer.headers.get("Retry-After", 1)), 10))
    if outcome.status == 201:
        outcome.image = body["uuid"]
        await _follow(session, body["id"], outcome)
    return outcome


async def _follow(session: aiohttp.ClientSession, image: int, outcome: Outcome) -> None:
    async def over() -> dict[str, Any] | None:
        async with session.get(f"/images/{image}/status") as answer:
            document: dict[str, Any] = await answer.json()
        return document if document.get("status") in ENDED else None

    try:
        document = await until(over, what="it to end", timeout=600, interval=0.2)
    except (AssertionError, aiohttp.ClientError, TimeoutError):
        outcome.image_status = "never ended"
        return
    assert document is not None
    outcome.image_status = document["status"]
    for name, stage in document["stages"].items():
        outcome.stages[name] = stage["error_code"] or stage["status"]


async def lift_limits(instance: Instance) -> None:
    """Give the default client limits that no corpus reaches."""
    admin = json.loads((instance.data_dir / "secrets.json").read_text())["ADMIN_API_KEY"]
    client = json.loads((instance.data_dir / "default-client.json").read_text())["client_id"]
    url = f"http://127.0.0.1:{instance.port}/auth/clients/{client}"
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": admin}, raise_for_status=True) as session,
        session.patch(url, json={"limits": _NO_LIMITS}),
    ):
        pass


async def child_exits(instance: Instance) -> dict[str, int]:
    """Return the number of child processes that died, by cause."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{instance.port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    prefix = 'imago_child_exits_total{cause="'
    counts: Counter[str] = Counter()
    for line in lines:
        if line.startswith(prefix):
            counts[line[len(prefix) :].split('"')[0]] += int(float(line.split()[-1]))
    return {cause: count for cause, count in counts.items() if count}


async def run(options: argparse.Namespace) -> bool:
    """Run an instance, send all files to it, and report."""
    source = Source(options.folder, options.limit, options.mutants, options.seed)
    with tempfile.TemporaryDirectory(prefix="imago-corpus-") as directory:
        environment = {"RETRY_BASE": "0.05", "RETRY_CAP": "0.2", "LOG_LEVEL": "info", "ANONYMOUS_BURST": "1000000"}
        instance = Instance(Path(directory) / "data", WORKER_MAX_JOBS=JOBS, WORKER_PROCESSES=JOBS, **environment)
        await asyncio.to_thread(instance.start, 180)
        watch = Watch()
        watching = asyncio.create_task(watch_processes(instance, watch))
        try:
            await lift_limits(instance)
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, source.stop)
            outcomes = await send_all(instance, source, options.out)
            exits = await child_exits(instance)
            attempts: list[Attempt] = attempts_of(instance.logs())
        finally:
            watching.cancel()
            await asyncio.to_thread(instance.stop)
            instance.kill()
    return report(outcomes, attempts, watch, exits, found=source.found, folder=options.out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="tests.faults.corpus", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of files")
    parser.add_argument("--limit", type=int, help="only the folder's first files")
    parser.add_argument("--mutants", type=int, default=0, help="how many mutated photos to send beside them")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--out", type=Path, default=Path("build"), help="where the report goes")
    options = parser.parse_args()
    if options.folder is None and not options.mutants:
        parser.error("name a folder (DIR=…), or --mutants (ARGS=…)")
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    sys.exit(0 if asyncio.run(run(options)) else 1)


if __name__ == "__main__":
    main()
