"""Memory of each process at rest, and of the API during large uploads."""

import asyncio
import time

from bench.bench import Bench
from bench.plots import Series
from bench.processes import Group
from bench.systems import Imago, Peer, worker_kind

# A BMP's header, which is valid for a file of any size; nothing is decoded during the upload.
_LARGE = 50 * 2**20
_PIECE = 256 * 1024


def measure(bench: Bench) -> None:
    """Measure memory."""
    report = bench.report
    report.section("Memory")
    counts = (1, bench.size(20, 100))
    growth: dict[str, list[float]] = {}
    for system in (bench.imago, bench.peer):
        with bench.workers(system):
            time.sleep(4)
            for name, group in system.groups().items():
                report.add(f"{system.name}: {name} at rest, MiB", group.memory() / 2**20)
            for worker in system.workers:
                name = f"{system.name}: worker {worker_kind(worker.pid)} at rest, MiB"
                report.add(name, Group([worker.pid]).memory() / 2**20)
        growth[system.name] = []
        for count in counts:
            system.restart_api()
            api = system.groups()["api"]
            before = api.memory()
            peak = bench.run(_in_flight(system, api, count))
            system.forget_images()
            grown = (peak - before) / 2**20
            growth[system.name].append(grown)
            target = 100 if system.name == "imago" and count > 1 else None
            report.add(
                f"{system.name}: API, growth with {count} uploads of 50 MiB in flight, MiB",
                grown,
                relation="<=" if target else None,
                target=target,
            )
    report.plot_bars(
        "memory",
        "Growth of the API's memory with uploads of 50 MiB in flight",
        "MiB",
        [Series(name, values) for name, values in growth.items()],
        [f"{count} concurrent" for count in counts],
    )


async def _in_flight(system: Imago | Peer, api: Group, count: int) -> int:
    """Return the API's peak memory in bytes during concurrent uploads that progress at the same rate."""
    peak, running = api.memory(), True

    async def watch() -> None:
        nonlocal peak
        while running:
            peak = max(peak, await asyncio.to_thread(api.memory))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    client = system.client()
    pieces = [b"BM" + bytes(_PIECE - 2), *[bytes(_PIECE)] * (_LARGE // _PIECE - 1)]
    head, _, end = client.upload(b"".join(pieces), name="large.bmp")
    try:
        # The API refuses the unreadable image after it has received all bytes.
        await asyncio.gather(*(client.once([head, *pieces, end], expect=None) for _ in range(count)))
    finally:
        running = False
        await watching
        client.close()
    return peak
