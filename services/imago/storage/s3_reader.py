"""An object of S3 as a file that threads read: only the ranges they ask for are fetched."""

import asyncio
import concurrent.futures
import io
import os
from collections.abc import Awaitable, Callable

from imago.storage.store import StorageUnavailable

Fetch = Callable[[int, int], Awaitable[bytes]]


class RangeReader(io.RawIOBase):
    """A seekable file whose reads, made in a thread, run `fetch(start, length)` on the loop that made it."""

    def __init__(self, size: int, fetch: Fetch, *, deadline: float) -> None:
        super().__init__()
        self._size = size
        self._fetch = fetch
        self._deadline = deadline
        self._position = 0
        self._loop = asyncio.get_running_loop()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; nothing is fetched."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Fetch what fits; raise StorageUnavailable, or ValueError once the block that opened it has ended."""
        if self.closed:
            raise ValueError("read after close")
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        asked = asyncio.run_coroutine_threadsafe(self._get(self._position, length), self._loop)
        try:
            # A little longer than the call's own deadline, which says more.
            data = asked.result(self._deadline + 5)
        except (TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            raise StorageUnavailable("a read took too long") from None
        if not data:
            raise StorageUnavailable("the object broke off")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    async def _get(self, start: int, length: int) -> bytes:
        return await self._fetch(start, length)
