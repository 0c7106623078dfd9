"""Measures a running `imago dev`: `make measure` prints what the README and the notes quote.

It starts a separate instance in a temporary folder, so your data is not touched.
"""

import asyncio
import io
import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import aiohttp
import numpy as np
import psutil
from PIL import Image

from devtools.instance import Instance

UPLOADS = 20
ROUNDS = 10


def large_image() -> bytes:
    """Return a BMP of just under 50 MB: stored as it is, so its size is its pixels'."""
    buffer = io.BytesIO()
    Image.effect_noise((4160, 4160), 60).convert("RGB").save(buffer, "BMP")
    return buffer.getvalue()[: 50 * 2**20]


def photo() -> bytes:
    """Return a photo-like JPEG of 3 megapixels."""
    noise = np.asarray(Image.effect_noise((250, 188), 90).resize((2000, 1500), Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    Image.fromarray(np.stack([noise, noise[::-1], noise[:, ::-1]], axis=2)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def upload(session: aiohttp.ClientSession, data: bytes) -> dict[str, object]:
    """Upload an image and return the answer."""
    form = aiohttp.FormData()
    form.add_field("file", data, filename="image", content_type="application/octet-stream")
    async with session.post("/images/upload", data=form) as answer:
        body: dict[str, object] = await answer.json()
        assert answer.status == 201, body
        return body


async def timings(session: aiohttp.ClientSession) -> dict[str, float]:
    """Upload photos one by one on idle workers; return medians in milliseconds."""
    data, answers, stages = photo(), [], {}
    done = []
    for round_number in range(ROUNDS + 2):
        began = time.monotonic()
        body = await upload(session, data + bytes([round_number]))
        answered = time.monotonic() - began
        while True:
            async with session.get(f"/images/{body['id']}/status") as answer:
                state = await answer.json()
            if state["status"] == "done":
                break
            await asyncio.sleep(0.01)
        if round_number < 2:
            continue
        answers.append(answered)
        done.append(time.monotonic() - began)
        for name, stage in state["stages"].items():
            took = datetime.fromisoformat(stage["done_at"]) - datetime.fromisoformat(stage["started_at"])
            stages.setdefault(name, []).append(took.total_seconds())
    figures = {"upload answered": answers, "upload to done": done, **stages}
    return {f"{name}, ms": round(1000 * statistics.median(values), 1) for name, values in figures.items()}


async def memory(session: aiohttp.ClientSession, api: psutil.Process) -> dict[str, float]:
    """Upload large files concurrently; return the API's memory before and at its peak, in MiB."""
    data = large_image()
    before = api.memory_info().rss
    peak, running = before, True

    async def watch() -> None:
        nonlocal peak
        while running:
            peak = max(peak, api.memory_info().rss)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    began = time.monotonic()
    await asyncio.gather(*(upload(session, data + bytes([number])) for number in range(UPLOADS)))
    seconds = time.monotonic() - began
    running = False
    await watching
    return {
        "one file, MiB": round(len(data) / 2**20, 1),
        "API before, MiB": round(before / 2**20, 1),
        f"API at its peak with {UPLOADS} concurrent uploads, MiB": round(peak / 2**20, 1),
        f"{UPLOADS} uploads took, s": round(seconds, 2),
    }


async def measure(instance: Instance) -> dict[str, object]:
    """Measure everything."""
    timeout = aiohttp.ClientTimeout(total=300)
    url = f"http://127.0.0.1:{instance.port}"
    api = next(process for process in instance.processes() if "api" in process.cmdline())
    async with aiohttp.ClientSession(url, headers={"X-API-Key": instance.key}, timeout=timeout) as session:
        figures: dict[str, object] = dict(await timings(session))
        figures |= {
            f"idle memory of {' '.join(process.cmdline()[3:5]) or process.name()}, MiB": round(
                process.memory_info().rss / 2**20, 1
            )
            for process in instance.processes()
            if "imago.cli.main" in process.cmdline() or process.name() == "nats-server"
        }
        figures |= await memory(session, api)
    return figures


def main() -> None:
    """Measure an instance of our own and print the figures as JSON."""
    with tempfile.TemporaryDirectory(prefix="imago-measure-") as folder:
        instance = Instance(Path(folder) / "data", MAX_UPLOAD_SIZE_MB="60").start()
        try:
            print(json.dumps(asyncio.run(measure(instance)), indent=2))
        finally:
            instance.stop()
            instance.kill()


if __name__ == "__main__":
    main()
