"""Thumbnails created during the upload: the cost of an upload at the same quality."""

import io
import math

import numpy as np
import orjson
from PIL import Image

from bench.bench import Bench
from bench.checks import done, thumbnail
from bench.pictures import photo_900k
from bench.processes import Meter
from bench.statistics import Sample, ratio
from bench.systems import Imago, Peer

# Format of the thumbnail and width of the photo. Imago decodes a photo of 2048 pixels at exactly the thumbnail's size;
# both systems decode one of 2300 pixels at half its size and then resample it.
_CASES = (("webp", 2048), ("jpeg", 2048), ("webp", 2300), ("jpeg", 2300))


def measure(bench: Bench) -> None:
    """Measure uploads with inline thumbnails, in both formats."""
    bench.report.section("Inline thumbnails")
    for kind, width in _CASES:
        data = photo_900k(width)
        bench.imago.restart_api(THUMBNAIL_MODE="inline", THUMBNAIL_FORMAT=kind)
        bench.peer.restart_api(PEER_THUMBNAIL_FORMAT=kind)
        costs: dict[str, list[float]] = {"imago": [], "peer": []}
        quality = {system.name: bench.run(_quality(system, data)) for system in (bench.imago, bench.peer)}
        count = bench.size(40, 200)
        for turn in bench.in_turn():
            for system in turn:
                bench.run(_upload(system, data, 4))
                meter = Meter(system.groups())
                bench.run(_upload(system, data, count))
                costs[system.name].append(meter.used()["api"] / count * 1000)
                system.forget_images()
        for name, values in costs.items():
            bench.report.add(f"{kind}, {width} pixels: {name}, API CPU ms per upload", Sample(tuple(values)))
            bench.report.add(f"{kind}, {width} pixels: {name}, PSNR of the thumbnail in dB", quality[name])
        bench.report.add(
            f"{kind}, {width} pixels: PSNR, dB above the peer's",
            quality["imago"] - quality["peer"],
            relation=">=",
            target=-1,
        )
        bench.report.add(
            f"{kind}, {width} pixels: API CPU, the peer's over ours",
            ratio(costs["peer"], costs["imago"]),
            relation=">=",
            target=1.2,
        )
    bench.imago.restart_api(THUMBNAIL_MODE="deferred", THUMBNAIL_FORMAT="webp")
    bench.peer.restart_api(PEER_THUMBNAIL_FORMAT="webp")


async def _upload(system: Imago | Peer, data: bytes, count: int) -> None:
    client = system.client()
    try:
        await client.drive(lambda _: client.upload(data), connections=4, count=count, expect=201)
    finally:
        client.close()


async def _quality(system: Imago | Peer, data: bytes) -> float:
    client = system.client()
    try:
        answer = orjson.loads((await client.once(client.upload(data), expect=201))[1])
        if system.name == "imago":
            await done(client, answer["id"], 60, stage="thumbnail")
        small = Image.open(io.BytesIO(await thumbnail(system, client, answer["id"]))).convert("RGB")
    finally:
        client.close()
    best = Image.open(io.BytesIO(data)).convert("RGB").resize(small.size, Image.Resampling.LANCZOS)
    return psnr(best, small)


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two images of the same size, in dB."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    error = float(np.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
