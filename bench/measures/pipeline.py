"""The whole pipeline on mixed images: throughput, CPU by stage, memory by process, against the peer."""

import asyncio
import time

import asyncpg
import orjson

from bench.bench import Bench
from bench.pictures import mixed
from bench.plots import Series
from bench.processes import Group, Meter
from bench.systems import Imago, Peer, worker_kind

_AFTER_START = 3.0


def measure(bench: Bench) -> None:
    """Measure both systems over the same images, one after the other."""
    images = mixed(bench.size(60, 500))
    bench.report.section(f"Whole pipeline, {len(images)} mixed images")
    totals: dict[str, float] = {}
    for system in (bench.imago, bench.peer):
        with bench.workers(system):
            time.sleep(_AFTER_START)
            totals[system.name] = bench.run(_pipeline(bench, system, images))
        system.forget_images()
    bench.report.add("CPU until done, the peer's over ours", totals["peer"] / totals["imago"], relation=">=", target=1)
    bench.report.plot_bars(
        "pipeline",
        "CPU of everything for one image of the mix",
        "s",
        [Series("CPU", [totals["imago"], totals["peer"]])],
        ["imago", "peer"],
    )


async def _pipeline(bench: Bench, system: Imago | Peer, images: list[tuple[str, bytes]]) -> float:
    """Add the figures of one system; return its CPU seconds per image."""
    report, count = bench.report, len(images)
    groups = {name: group for name, group in system.groups().items() if name != "workers"}
    groups |= {f"worker {worker_kind(worker.pid)}": Group([worker.pid]) for worker in system.workers}
    peaks = dict.fromkeys(groups, 0)
    meter, client, began = Meter(groups), system.client(), time.perf_counter()
    watching = asyncio.create_task(_watch(groups, peaks))
    try:
        requests = [client.upload(data, name=name) for name, data in images]
        outcome = await client.drive(requests.__getitem__, connections=4, count=count, expect=201, keep_bodies=True)
        await _all_ended(system, [orjson.loads(body)["id"] for body in outcome.bodies])
    finally:
        watching.cancel()
        client.close()
    seconds, used = time.perf_counter() - began, meter.used()
    report.add(f"{system.name}: images per minute", count / seconds * 60)
    total = sum(used.values()) / count
    report.add(f"{system.name}: CPU s per image, all processes", total)
    for name, cpu in used.items():
        report.add(f"{system.name}: {name}, CPU s per image", cpu / count)
    for name, peak in peaks.items():
        report.add(f"{system.name}: {name}, peak memory with its children in MiB", peak / 2**20)
    return total


async def _all_ended(system: Imago | Peer, ids: list[int]) -> None:
    column = "status" if isinstance(system, Imago) else "processing_status"
    query = f"SELECT count(*) FROM images WHERE id = ANY($1) AND {column} IN ('pending', 'processing')"
    connection = await asyncpg.connect(system.database_url.replace("+asyncpg", ""))
    try:
        deadline = time.monotonic() + 3600
        while left := await connection.fetchval(query, ids):
            assert time.monotonic() < deadline, f"{system.name} left {left} images undone"
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _watch(groups: dict[str, Group], peaks: dict[str, int]) -> None:
    while True:
        for name, group in groups.items():
            peaks[name] = max(peaks[name], await asyncio.to_thread(group.memory))
        await asyncio.sleep(1.0)
