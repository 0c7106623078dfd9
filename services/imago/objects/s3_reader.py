"""An object of S3 as a file that threads read: only the ranges they ask for are fetched."""

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

# What a read of all that is left fetches at once; the base class would fetch 8 KiB.
_AT_ONCE = 4 * 2**20

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
        self._thread = threading.get_ident()
        self._asked: concurrent.futures.Future[bytes] | None = None
        self._ended = False

    def end(self) -> None:
        """Let a thread that reads at this moment go, and no other one read."""
        self._ended = True
        if self._asked is not None:
            self._asked.cancel()

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

    def readall(self) -> bytes:
        """Fetch all that is left."""
        pieces = []
        while piece := self.read(_AT_ONCE):
            pieces.append(piece)
        return b"".join(pieces)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fetch what fits; raise StorageUnavailable, or ValueError once the block that opened it has ended."""
        if self._ended or self.closed:
            raise ValueError("read after close")
        if threading.get_ident() == self._thread:
            raise RuntimeError("a read in the loop's own thread would wait for itself")
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._position)
        if length <= 0:
            return 0
        data = self._fetched(self._position, length)
        if len(data) != length:
            raise StorageUnavailable("the object broke off")
        view[:length] = data
        self._position += length
        return length

    def _fetched(self, start: int, length: int) -> bytes:
        self._asked = asked = asyncio.run_coroutine_threadsafe(self._get(start, length), self._loop)
        if self._ended:
            # The block ended between the check and the request.
            asked.cancel()
        try:
            # A little longer than the call's own deadline, which says more.
            return asked.result(self._deadline + 5)
        except (TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            if self._ended:
                raise ValueError("read after close") from None
            raise StorageUnavailable("a read took too long") from None

    async def _get(self, start: int, length: int) -> bytes:
        return await self._fetch(start, length)
