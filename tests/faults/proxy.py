"""A TCP proxy that can cut, refuse and hang connections to NATS, PostgreSQL and S3."""

import asyncio
import contextlib
import threading
from enum import StrEnum


class Mode(StrEnum):
    """How the proxy treats connections."""

    PASS = "pass"
    REFUSE = "refuse"
    HANG = "hang"
    """Connections are accepted and stay open, but no data passes."""
    ERROR = "error"
    """Every HTTP request gets a 500."""


class Proxy:
    """Forward a port of 127.0.0.1 to another, in a separate thread, so that tests can change the mode at any time."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._mode = Mode.PASS
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def set(self, mode: Mode) -> None:
        """Change the mode, also for open connections."""
        asyncio.run_coroutine_threadsafe(self._set(mode), self._loop).result(10)

    def close(self) -> None:
        """Stop."""
        self.set(Mode.REFUSE)
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _listen(self) -> asyncio.Server:
        self._flowing.set()
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _set(self, mode: Mode) -> None:
        hung = self._mode is Mode.HANG
        self._mode = mode
        if mode is Mode.HANG:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode in (Mode.REFUSE, Mode.ERROR) or hung:
            # Both sides have given up on a connection that hung.
            for writer in tuple(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.REFUSE:
            writer.transport.abort()
            return
        if self._mode is Mode.ERROR:
            await _answer_500(reader, writer)
            return
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            there, other = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(other)
            await asyncio.gather(self._pump(reader, other), self._pump(there, writer))
        except OSError:
            pass
        finally:
            for end in (writer, other):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Either side may close the connection at any time, or be killed; the other side sees the same.
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, RuntimeError):
            writer.transport.abort()


async def _answer_500(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        # A body may still be in transit; closing immediately would reset the connection before the response is read.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while await reader.read(65536):
                    pass
    writer.close()
