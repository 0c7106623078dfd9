"""Functional checks that both systems must pass before anything is timed.

They cover what the benchmark relies on: the same refusals, limits, responses and thumbnail pixels.
"""

import asyncio
import hashlib
import io
import struct
import time
import zlib
from typing import Any

import orjson
from PIL import Image

from bench.load import Client
from bench.pictures import TEXT_EN, encoded, page, photo_128k
from bench.systems import Imago, Peer


class CheckFailed(Exception):
    """A system does not behave as the benchmark requires."""


def _hold(condition: object, text: str) -> None:
    if not condition:
        raise CheckFailed(text)


async def check(system: Imago | Peer, *, wait_for: float = 60.0) -> None:
    """Raise CheckFailed if a system, with its workers running, fails a functional check."""
    client = system.client()
    try:
        await _refusals(system, client)
        await _upload(system, client, wait_for)
        await _text(system, client, wait_for)
        await _list(system, client)
    finally:
        client.close()


async def _refusals(system: Imago | Peer, client: Client) -> None:
    unknown = Client(system.url, "imago_00000000_0_0")
    for parts in (unknown.get("/images"), unknown.upload(photo_128k())):
        status, _ = await unknown.once(parts, expect=None)
        _hold(status == 401, f"{system.name}: an unknown key gets {status}")
    unknown.close()
    for what, data, expected in (
        ("a file that is not an image", b"not an image " * 100, {415}),
        ("a file without bytes", None, {415, 422}),
        ("a bomb", _bomb(), {413}),
        ("a broken header", b"\x89PNG\r\n\x1a\n" + b"rubbish" * 100, {415, 422}),
        ("a file over the limit", photo_128k() + bytes(61 * 2**20), {413}),
    ):
        parts = client.upload(data or b"")
        status, _ = await Client(system.url, system.key).once(parts, expect=None)
        _hold(status in expected, f"{system.name}: {what} gets {status}")


def _bomb() -> bytes:
    """Return a small PNG whose header declares 3,600 million pixels."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


async def _upload(system: Imago | Peer, client: Client, wait_for: float) -> None:
    parts = client.upload(photo_128k(), name="été.jpg")
    answer = orjson.loads((await client.once(parts, expect=201))[1])
    again = orjson.loads((await client.once(parts, expect=201))[1])
    _hold(again["duplicate_of"] == answer["id"], f"{system.name}: a duplicate is not reported")
    await done(client, answer["id"], wait_for)
    detail = await client.json(f"/images/{answer['id']}")
    stored = parts[1] + parts[2].partition(b"\r\n--")[0]
    _hold(detail["sha256"] == hashlib.sha256(stored).hexdigest(), f"{system.name}: another sha256")
    _hold((detail["width"], detail["height"], detail["format"]) == (800, 600, "jpeg"), f"{system.name}: another header")
    for part in ("exif", "ocr", "ai"):
        _hold(detail[part] is not None, f"{system.name}: no result of {part}")
    small = Image.open(io.BytesIO(await thumbnail(system, client, answer["id"])))
    _hold(max(small.size) == 512 and not small.getexif(), f"{system.name}: another thumbnail {small.size}")


async def _text(system: Imago | Peer, client: Client, wait_for: float) -> None:
    parts = client.upload(encoded(page(TEXT_EN), "PNG"), name="page.png")
    answer = orjson.loads((await client.once(parts, expect=201))[1])
    await done(client, answer["id"], wait_for)
    text = (await client.json(f"/images/{answer['id']}/ocr"))["ocr"] if system.name == "imago" else None
    text = text or (await client.json(f"/images/{answer['id']}"))["ocr"]
    _hold(
        "Four score and seven years ago" in " ".join(text["text"].split()), f"{system.name}: read {text['text'][:80]!r}"
    )


async def _list(system: Imago | Peer, client: Client) -> None:
    first = await client.json("/images?limit=1")
    second = await client.json(f"/images?limit=1&cursor={first['next_cursor']}")
    _hold(first["items"][0]["id"] > second["items"][0]["id"], f"{system.name}: a page isn't below the one before")
    _hold(first["quota"]["images_used"] == first["items"][0]["id"], f"{system.name}: the quota counts otherwise")


async def done(client: Client, image: int, wait_for: float, *, stage: str | None = None) -> dict[str, Any]:
    """Wait until an image, or one stage of it, is done; return its status. Raises CheckFailed."""
    deadline = time.monotonic() + wait_for
    while True:
        status = await client.json(f"/images/{image}/status")
        if (status["stages"][stage] if stage else status)["status"] == "done":
            return status
        _hold(time.monotonic() < deadline, f"an image wasn't done in {wait_for} s: {status}")
        await asyncio.sleep(0.005)


async def thumbnail(system: Imago | Peer, client: Client, image: int) -> bytes:
    """Return the bytes of an image's thumbnail."""
    if system.name == "peer":
        return (await client.once(client.get(f"/images/{image}/thumbnail")))[1]
    url = (await client.json(f"/images/{image}/thumbnail-url"))["url"]
    return (await client.once(client.get(url.removeprefix(system.url))))[1]
