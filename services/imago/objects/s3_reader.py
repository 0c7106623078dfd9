"""A file object over an S3 object for use in threads; it fetches only the ranges that are read."""

import asyncio
import concurrent.futures
import io
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from imago.objects.store import StorageUnavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# The size of the requests of `readall`; the base class would fetch 8 KiB at a time.
_READALL_BYTES = 4 * 2**20

Fetch = Callable[[int, int], Awaitable[bytes]]


class RangeReader(io.RawIOBase):
    """A seekable file for a thread; its reads run `fetch(start, length)` on the event loop that created it."""

    def __init__(self, size: int, fetch: Fetch, *, timeout: float) -> None:
        super().__init__()
        self._size = size
        self._fetch = fetch
        self._timeout = timeout
        self._position = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._pending: concurrent.futures.Future[bytes] | None = None
        self._ended = False

    def end(self) -> None:
        """Cancel a read in progress and reject further reads."""
        self._ended = True
        if self._pending is not None:
            self._pending.cancel()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position without fetching anything."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek")
        self._position = base + offset
        return self._position

    def readall(self) -> bytes:
        """Fetch the rest of the object."""
        pieces = []
        while piece := self.read(_READALL_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fetch bytes into a buffer; raise StorageUnavailable, or ValueError after `end`."""
        if self._ended or self.closed:
            raise ValueError("read after close")
        if threading.get_ident() == self._thread:
            raise RuntimeError("a read in the event loop's thread would deadlock")
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._position)
        if length <= 0:
            return 0
        data = self._fetch_in_loop(self._position, length)
        if len(data) != length:
            raise StorageUnavailable("the response ended early")
        view[:length] = data
        self._position += length
        return length

    def _fetch_in_loop(self, start: int, length: int) -> bytes:
        self._pending = future = asyncio.run_coroutine_threadsafe(self._get(start, length), self._loop)
        if self._ended:
            # `end` was called between the check and the request.
            future.cancel()
        try:
            # Longer than the timeout of the call itself, whose error says more.
            return future.result(self._timeout + 5)
        except (TimeoutError, concurrent.futures.CancelledError):
            future.cancel()
            if self._ended:
                raise ValueError("read after close") from None
            raise StorageUnavailable("read timed out") from None

    async def _get(self, start: int, length: int) -> bytes:
        return await self._fetch(start, length)
