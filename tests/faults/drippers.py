"""Uploads that send a byte a second, from a separate process, so that their cost here does not affect measurements.

Run as `python -m tests.faults.drippers PORT COUNT`, the key in IMAGO_API_KEY. It writes one line when all of them have
begun, and ends when the server has ended them all.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_INTERVAL = 1.0
_BODY = (
    b"--x\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    b"\xff\xd8\xff\xe0"
)


@asynccontextmanager
async def drippers(port: int, key: str, count: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process of slow senders whose uploads have all started; stop it at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.drippers",
        str(port),
        str(count),
        env={**os.environ, "IMAGO_API_KEY": key},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"begun\n", "the slow senders could not begin"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _run(port: int, key: str, count: int) -> None:
    begun = [asyncio.Event() for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        for number, event in enumerate(begun):
            # Real slow clients do not send in step.
            group.create_task(_drip(port, key, number * _INTERVAL / count, event))
        for event in begun:
            await event.wait()
        print("begun", flush=True)


async def _drip(port: int, key: str, phase: float, begun: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /images/upload HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    writer.write(head.encode() + _BODY)
    sending = asyncio.create_task(_send(writer, phase))
    begun.set()
    # The server ends the upload with a response or by closing the connection.
    with contextlib.suppress(ConnectionError):
        await reader.read()
    sending.cancel()
    writer.close()


async def _send(writer: asyncio.StreamWriter, phase: float) -> None:
    await asyncio.sleep(phase)
    while True:
        writer.write(b"\x00")
        await asyncio.sleep(_INTERVAL)


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), os.environ["IMAGO_API_KEY"], int(sys.argv[2])))
