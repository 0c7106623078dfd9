"""Send hostile files through the upload path and the whole pipeline of an instance, and report the outcome.

`python -m tests.faults.corpus FOLDER --mutants 4000`: every file of the folder, and mutated copies of our own photos.
Exits with 1 where a file got a 5xx, killed a process that must live, took too long, or left an image that never ended.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from devtools.instance import Instance
from devtools.waiting import until
from tests.faults.figures import Figures
from tests.faults.mutants import mutants

PARALLEL = 8
SLOWEST = 10
MB = 2**20

# The longest time a stage may take; pauses between retries do not count.
LONGEST_STAGE = 10.0


@dataclass
class Seen:
    """The outcome of one file."""

    name: str
    status: int = 0
    code: str = ""
    upload_seconds: float = 0.0
    image_status: str = ""
    stages: dict[str, str] = field(default_factory=dict)
    longest_stage: float = 0.0
    longest_stage_name: str = ""


@dataclass
class Watch:
    """The memory that the instance's processes used, and which of them died."""

    peaks: Counter[str] = field(default_factory=Counter)
    peak_sum: int = 0
    parents: dict[int, str] = field(default_factory=dict)
    dead_parents: list[str] = field(default_factory=list)


def files(folder: Path | None, count: int, seed: int, limit: int | None) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the folder, then mutants."""
    if folder is not None:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in found[:limit]:
            yield str(path.relative_to(folder)), path.read_bytes()
    yield from mutants(count, seed)


async def send_all(instance: Instance, source: Iterator[tuple[str, bytes]]) -> list[Seen]:
    """Send every file and wait until every image has ended."""
    seen: list[Seen] = []
    timeout = aiohttp.ClientTimeout(total=300)
    base = f"http://127.0.0.1:{instance.port}"
    async with aiohttp.ClientSession(base, headers={"X-API-Key": instance.key}, timeout=timeout) as session:

        async def sender() -> None:
            for name, data in source:
                seen.append(await _send(session, name, data))
                if len(seen) % 500 == 0:
                    print(f"{len(seen)} files sent", file=sys.stderr)

        await asyncio.gather(*(sender() for _ in range(PARALLEL)))
    return seen


async def _send(session: aiohttp.ClientSession, name: str, data: bytes) -> Seen:
    result = Seen(name)
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("file", data, filename=Path(name).name, content_type="application/octet-stream")
    began = time.monotonic()
    try:
        async with session.post("/images/upload", data=form) as answer:
            body = await answer.json(content_type=None)
    except aiohttp.ClientError as error:
        result.code = type(error).__name__
        return result
    result.status, result.upload_seconds = answer.status, time.monotonic() - began
    result.code = body.get("code", "")
    if answer.status == 201:
        await _follow(session, body["id"], result)
    return result


async def _follow(session: aiohttp.ClientSession, image: int, result: Seen) -> None:
    async def over() -> dict[str, Any] | None:
        async with session.get(f"/images/{image}/status") as answer:
            document: dict[str, Any] = await answer.json()
        return document if document["status"] in ("done", "partial", "failed") else None

    try:
        document = await until(over, what="it to end", timeout=300, interval=0.1)
    except AssertionError:
        result.image_status = "never ended"
        return
    assert document is not None
    result.image_status = document["status"]
    for name, stage in document["stages"].items():
        result.stages[name] = stage["error_code"] or stage["status"]
        if stage["started_at"] and stage["done_at"]:
            took = _moment(stage["done_at"]) - _moment(stage["started_at"])
            if stage["attempts"] == 1 and took > result.longest_stage:
                result.longest_stage, result.longest_stage_name = took, name


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def watch_processes(instance: Instance, watch: Watch) -> None:
    """Sample memory, and record parent processes that end."""
    for process in instance.processes():
        if name := _parent_name(process):
            watch.parents[process.pid] = name
    while True:
        total, alive = 0, set()
        for process in instance.processes():
            try:
                rss, name = process.memory_info().rss, _parent_name(process) or "child"
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            alive.add(process.pid)
            total += rss
            watch.peaks[name] = max(watch.peaks[name], rss)
        watch.peak_sum = max(watch.peak_sum, total)
        for pid in [pid for pid in watch.parents if pid not in alive]:
            watch.dead_parents.append(watch.parents.pop(pid))
        await asyncio.sleep(0.2)


def _parent_name(process: psutil.Process) -> str | None:
    try:
        line = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None
    if "imago.cli.main" in line:
        return " ".join(line[line.index("imago.cli.main") + 1 :][:2]).split(" --")[0]
    if line and line[0].endswith("nats-server"):
        return "nats-server"
    return "imago dev" if "dev" in line and "--data-dir" in line else None


async def child_exits(instance: Instance) -> dict[str, int]:
    """Return the number of child processes that died, by cause."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{instance.port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    prefix = 'imago_child_exits_total{cause="'
    counts = {
        line[len(prefix) :].split('"')[0]: int(float(line.split()[-1])) for line in lines if line.startswith(prefix)
    }
    return {cause: count for cause, count in counts.items() if count}


def report(seen: list[Seen], watch: Watch, exits: dict[str, int], *, folder: Path) -> bool:
    """Print and write the report; return whether every target was met."""
    figures = Figures("corpus")
    statuses = Counter(f"{one.status} {one.code}".strip() for one in seen)
    errors = Counter(f"{stage}: {code}" for one in seen for stage, code in one.stages.items() if code != "done")
    held = True

    def hold(name: str, value: float, target: float) -> None:
        nonlocal held
        try:
            figures.hold(name, value, "<=", target)
        except AssertionError as error:
            held = False
            print(f"NOT MET: {error}")

    figures.note("files", len(seen))
    hold("files that got a 5xx or no answer", sum(one.status == 0 or one.status >= 500 for one in seen), 0)
    hold("images that never ended", sum(one.image_status == "never ended" for one in seen), 0)
    hold("parents that died", len(watch.dead_parents), 0)
    hold("longest stage (s)", max((one.longest_stage for one in seen), default=0), LONGEST_STAGE)
    hold("slowest upload (s)", max((one.upload_seconds for one in seen), default=0), LONGEST_STAGE)
    hold("most memory of one process (MiB)", max(watch.peaks.values(), default=0) / MB, 1024)
    figures.note("most memory of all processes together (MiB)", watch.peak_sum / MB)
    figures.note("child processes that ended by themselves", str(exits))
    print("\nanswers:")
    for name, count in statuses.most_common():
        print(f"  {count:6}  {name}")
    print("images:")
    for name, count in Counter(one.image_status for one in seen if one.image_status).most_common():
        print(f"  {count:6}  {name}")
    print("stages that did not succeed:")
    for name, count in errors.most_common():
        print(f"  {count:6}  {name}")
    print("slowest stages:")
    for one in sorted(seen, key=lambda item: -item.longest_stage)[:SLOWEST]:
        print(f"  {one.longest_stage:6.2f} s  {one.longest_stage_name:<10} {one.name}")
    print("memory:")
    for name, peak in watch.peaks.most_common():
        print(f"  {peak / MB:6.0f} MiB  {name}")
    if watch.dead_parents:
        print(f"parents that died: {watch.dead_parents}")
    figures.write(folder)
    (folder / "corpus-files.json").write_text(json.dumps([vars(one) for one in seen], indent=1))
    print((folder / "corpus.md").read_text())
    return held


async def run(options: argparse.Namespace) -> bool:
    """Run an instance, send all files to it, and report."""
    source = files(options.folder, options.mutants, options.seed, options.limit)
    with tempfile.TemporaryDirectory(prefix="imago-corpus-") as directory:
        instance = Instance(Path(directory) / "data", RETRY_BASE="0.05", RETRY_CAP="0.2")
        await asyncio.to_thread(instance.start, 180)
        watch = Watch()
        watching = asyncio.create_task(watch_processes(instance, watch))
        try:
            seen = await send_all(instance, source)
            exits = await child_exits(instance)
        finally:
            watching.cancel()
            await asyncio.to_thread(instance.stop)
            instance.kill()
    return report(seen, watch, exits, folder=options.out)


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
