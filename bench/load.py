"""A cheap load generator: HTTP/1.1 over kept-alive connections, with requests built in advance."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import orjson

BOUNDARY = "bench-7d0fa6c1"

# A request is sent as parts, because only the last chunk of a body differs from request to request.
Parts = Sequence[bytes]


@dataclass
class Outcome:
    """The result of a series of requests; latencies are in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds


class UnexpectedAnswer(Exception):
    """A response whose status the benchmark can't use."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._buffer[:end]).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self._buffer) >= end + 4 + length:
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            self._buffer.clear()
            self._answer.set_result((int(head.split(b" ", 2)[1]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server hung up"))

    async def request(self, parts: Parts) -> tuple[int, bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        for part in parts:
            self._transport.write(part)
            await self._writable.wait()
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Client:
    """A client of one server with one key and several connections."""

    def __init__(self, url: str, key: str) -> None:
        address = urlsplit(url)
        self._host, self._port, self._key = address.hostname or "", address.port or 80, key
        self._idle: list[_Connection] = []

    def get(self, path: str) -> Parts:
        """Build a GET."""
        return (f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nX-API-Key: {self._key}\r\n\r\n".encode(),)

    def upload(self, data: bytes, *, name: str = "photo.jpg", path: str = "/images/upload") -> Parts:
        """Build an upload with unique bytes, which are appended after the image and change no pixel."""
        before = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        after = b"bench" + secrets.token_bytes(16) + f"\r\n--{BOUNDARY}--\r\n".encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nX-API-Key: {self._key}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"Content-Length: {len(before) + len(data) + len(after)}\r\n\r\n"
        ).encode()
        return head + before, data, after

    async def once(self, parts: Parts, *, expect: int | None = 200) -> tuple[int, bytes]:
        """Send one request; raise UnexpectedAnswer if its status is not the expected one."""
        connection = self._idle.pop() if self._idle else await self._connect()
        status, body = await connection.request(parts)
        self._idle.append(connection)
        if expect is not None and status != expect:
            raise UnexpectedAnswer(f"{status} instead of {expect}: {body[:200]!r}")
        return status, body

    async def json(self, path: str) -> dict:  # type: ignore[type-arg]
        """Return the JSON body of a GET."""
        return orjson.loads((await self.once(self.get(path)))[1])

    async def drive(
        self,
        make: Callable[[int], Parts],
        *,
        connections: int,
        expect: int = 200,
        count: int | None = None,
        seconds: float | None = None,
        keep_bodies: bool = False,
    ) -> Outcome:
        """Send requests over `connections` concurrent connections until `count` were sent or `seconds` have passed.

        `make` returns the parts of a request by its number. Raises UnexpectedAnswer.
        """
        outcome, next_number = Outcome(), 0
        began = time.perf_counter()
        deadline = began + seconds if seconds is not None else float("inf")

        async def work() -> None:
            nonlocal next_number
            while (count is None or next_number < count) and time.perf_counter() < deadline:
                number, next_number = next_number, next_number + 1
                parts = make(number)
                sent = time.perf_counter()
                _, body = await self.once(parts, expect=expect)
                outcome.latencies.append(time.perf_counter() - sent)
                if keep_bodies:
                    outcome.bodies.append(body)

        await asyncio.gather(*(work() for _ in range(connections)))
        outcome.seconds = time.perf_counter() - began
        return outcome

    def close(self) -> None:
        """Close the connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect(self) -> _Connection:
        _, protocol = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return protocol
