"""Uploads: rate and cost of accepting them, cost of an image until it is done, time until its thumbnail exists."""

import asyncio
import time
from collections.abc import Callable

import asyncpg
import orjson

from bench.bench import Bench
from bench.floor_system import Floor
from bench.load import Client, Outcome
from bench.pictures import photo_128k, photo_900k
from bench.plots import Series
from bench.processes import Meter
from bench.statistics import Sample, ratio
from bench.systems import Imago, Peer
from devtools.waiting import until

SIZES: dict[str, Callable[[], bytes]] = {"900 KB": photo_900k, "128 KB": photo_128k}
CONNECTIONS = (1, 8, 64)


def measure(bench: Bench) -> None:
    """Measure uploads."""
    bench.report.section("Uploads")
    _acceptance(bench)
    _floor(bench)
    _until_done(bench)


def _acceptance(bench: Bench) -> None:
    report, systems = bench.report, (bench.imago, bench.peer)
    rates: dict[str, list[float]] = {"imago": [], "peer": []}
    labels = []
    for size, photo in SIZES.items():
        data = photo()
        for connections in CONNECTIONS:
            measured: dict[str, list[tuple[float, float]]] = {"imago": [], "peer": []}
            for system in systems:
                bench.run(_upload(system, data, connections, 16))
            for turn in bench.in_turn():
                for system in turn:
                    count = bench.size(160, 800) if system.name == "imago" else bench.size(64, 320)
                    meter = Meter(system.groups())
                    outcome = bench.run(_upload(system, data, connections, count))
                    measured[system.name].append((outcome.rate, meter.used()["api"] / count * 1000))
                    system.forget_images()
            case = f"{size}, {connections} connection{'s' if connections > 1 else ''}"
            labels.append(case)
            for name, pairs in measured.items():
                rate = report.add(f"{case}: {name}, uploads/s", Sample(tuple(pair[0] for pair in pairs)))
                rates[name].append(rate)
                report.add(f"{case}: {name}, API CPU ms per upload", Sample(tuple(pair[1] for pair in pairs)))
            ours, theirs = measured["imago"], measured["peer"]
            report.add(
                f"{case}: uploads/s, ratio to the peer",
                ratio([pair[0] for pair in ours], [pair[0] for pair in theirs]),
                relation=">=",
                target=8,
            )
            report.add(
                f"{case}: API CPU, ratio to the peer",
                ratio([pair[1] for pair in ours], [pair[1] for pair in theirs]),
                relation="<=",
                target=1 / 8,
            )
    series = [Series(name, values) for name, values in rates.items()]
    report.plot_bars("uploads", "Uploads accepted", "per second", series, labels)
    report.note(
        "No workers run during this measurement. The peer creates its thumbnail before it "
        "responds, Imago afterwards; the next figures cover all of the work."
    )


def _floor(bench: Bench) -> None:
    """Measure only aiohttp, one durable file and one committed row, in Imago's PostgreSQL."""
    with Floor(bench.imago) as floor:
        for size, photo in SIZES.items():
            data, costs, rates = photo(), [], []
            bench.run(_upload_to(floor.url, data, 8, 16))
            for _ in range(bench.rounds):
                count = bench.size(160, 800)
                meter = Meter({"api": floor.group()})
                rates.append(bench.run(_upload_to(floor.url, data, 8, count)).rate)
                costs.append(meter.used()["api"] / count * 1000)
            bench.report.add(f"{size}, 8 connections: the floor, uploads/s", Sample(tuple(rates)))
            bench.report.add(f"{size}, 8 connections: the floor, API CPU ms per upload", Sample(tuple(costs)))
    bench.report.note(
        "The floor is only aiohttp: it hashes the form's file, writes it durably and commits one row, without "
        "authentication, limits, quota, header, stages, messages, metrics and logs (`bench/floor.py`)."
    )


async def _upload_to(url: str, data: bytes, connections: int, count: int) -> Outcome:
    client = Client(url, "")
    try:
        return await client.drive(lambda _: client.upload(data), connections=connections, count=count, expect=201)
    finally:
        client.close()


async def _upload(system: Imago | Peer, data: bytes, connections: int, count: int) -> Outcome:
    client = system.client()
    try:
        return await client.drive(
            lambda _: client.upload(data), connections=connections, count=count, expect=201, keep_bodies=True
        )
    finally:
        client.close()


def _until_done(bench: Bench) -> None:
    """Measure only thumbnail and EXIF: OCR and vision cost so much more that they would hide the difference."""
    report, data = bench.report, photo_900k()
    bench.imago.set_stages("exif")
    bench.peer.restart_api(PEER_STAGES="exif")
    costs: dict[str, list[float]] = {"imago": [], "peer": []}
    waits: dict[str, list[float]] = {"imago": [], "peer": []}
    parts: dict[str, list[dict[str, float]]] = {"imago": [], "peer": []}
    with bench.workers(bench.imago, bench.peer):
        for system in (bench.imago, bench.peer):
            bench.run(_work_off(system, data, 10))
        count = bench.size(48, 240)
        for turn in bench.in_turn():
            for system in turn:
                meter = Meter(system.groups())
                bench.run(_work_off(system, data, count))
                used = meter.used()
                parts[system.name].append(used)
                costs[system.name].append(sum(used.values()) / count * 1000)
                waits[system.name].append(bench.run(_thumbnail_wait(system, data, bench.size(15, 60))))
                system.forget_images()
    for name in ("imago", "peer"):
        report.add(
            f"900 KB, thumbnail and EXIF done: {name}, CPU ms per image, all processes", Sample(tuple(costs[name]))
        )
        for group in ("api", "workers", "database", "broker"):
            report.add(
                f"… of which {name}'s {group}", Sample(tuple(used[group] / count * 1000 for used in parts[name]))
            )
        report.add(
            f"900 KB, until the thumbnail exists: {name}, ms", Sample(tuple(wait * 1000 for wait in waits[name]))
        )
    for what, values in (("CPU until done", costs), ("time until the thumbnail exists", waits)):
        report.add(
            f"900 KB, {what}, ratio to the peer", ratio(values["imago"], values["peer"]), relation="<=", target=1
        )
    bench.imago.set_stages("exif", "ocr", "vision")
    bench.peer.restart_api(PEER_STAGES="exif,ocr,vision")


async def _work_off(system: Imago | Peer, data: bytes, count: int) -> None:
    """Upload and wait until everything is done, by polling the database: polling the API would cost it CPU."""
    outcome = await _upload(system, data, 4, count)
    ids = [orjson.loads(body)["id"] for body in outcome.bodies]
    connection = await asyncpg.connect(system.database_url.replace("+asyncpg", ""))
    column = "status" if system.name == "imago" else "processing_status"
    try:
        deadline = time.monotonic() + 300
        while await connection.fetchval(f"SELECT count(*) FROM images WHERE id = ANY($1) AND {column} <> 'done'", ids):
            assert time.monotonic() < deadline, f"{system.name} left images undone for 300 s"
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def _thumbnail_wait(system: Imago | Peer, data: bytes, count: int) -> float:
    """Return the median seconds from sending a photo until its thumbnail exists, on an idle system."""
    client, waits = system.client(), []
    connection = await asyncpg.connect(system.database_url.replace("+asyncpg", ""))
    try:
        for _ in range(count):
            waits.append(await _wait_once(system, client, connection, data))
    finally:
        client.close()
        await connection.close()
    return Sample(tuple(waits)).median


async def _wait_once(system: Imago | Peer, client: Client, connection: asyncpg.Connection, data: bytes) -> float:
    parts = client.upload(data)
    began = time.perf_counter()
    image = orjson.loads((await client.once(parts, expect=201))[1])["id"]
    if system.name == "imago":
        # Detected by polling, so Imago's figure includes half an interval and a round trip.
        made = "SELECT thumbnail_key IS NOT NULL FROM images WHERE id = $1"
        await until(lambda: connection.fetchval(made, image), what="a thumbnail", timeout=60, interval=0.001)
    return time.perf_counter() - began
