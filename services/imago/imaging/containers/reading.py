"""A reader of ranges of a file that limits how much a crafted file can cost, and what formats have in common."""

import re
import time
from dataclasses import dataclass
from typing import BinaryIO

# A scan of a whole file of the default upload limit (50 MB) must fit.
MAX_BYTES = 80 * 2**20
# With object storage every window is a request.
MAX_WINDOWS = 3000
# Segments, chunks, boxes, directory entries and blocks; each takes about a microsecond.
MAX_STEPS = 200_000
MAX_CPU_SECONDS = 0.8
# The chunks of a PNG or WebP file.
MAX_CHUNKS = 20_000

_SMALLEST_WINDOW = 4096
_LARGEST_WINDOW = 256 * 1024


class BrokenContainer(ValueError):
    """The structure of the file contradicts itself or ends too early; the message says what is wrong."""


class LimitExceeded(BrokenContainer):
    """The structure of the file has more parts than any image needs."""


class UnsupportedVariant(BrokenContainer):
    """The file is valid, but nothing here decodes this variant of its format; the message names it."""


@dataclass(frozen=True)
class Chunk:
    """The name of a chunk of PNG or WebP, and the position and length of its data."""

    name: bytes
    offset: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Size in pixels and the number of frames."""

    width: int
    height: int
    frames: int


class BoundedReader:
    """Reads ranges of a seekable file through a window, and raises LimitExceeded beyond its limits.

    Windows grow while the file is read from front to back, and shrink when parts are skipped.
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int = MAX_BYTES, max_steps: int = MAX_STEPS) -> None:
        self._stream = stream
        self.size = stream.seek(0, 2)
        self._bytes_left = max_bytes
        self._steps_left = max_steps
        self._windows_left = MAX_WINDOWS
        self._cpu_end = time.thread_time() + MAX_CPU_SECONDS
        self._ahead = _SMALLEST_WINDOW
        self._start = 0
        self._window = b""

    def step(self, count: int = 1) -> None:
        """Count parts of the structure."""
        self._steps_left -= count
        if self._steps_left < 0:
            raise LimitExceeded("the file has too many parts")

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range; fewer if the file ends in it."""
        at = offset - self._start
        if at >= 0 and at + length <= len(self._window):
            return self._window[at : at + length]
        if offset < 0 or offset >= self.size or length <= 0:
            return b""
        return self._fetch(offset, min(length, self.size - offset))[:length]

    def exactly(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range; raise BrokenContainer if the file ends in it."""
        data = self.read(offset, length)
        if len(data) < length:
            raise BrokenContainer("the file ends too early")
        return data

    def search(self, pattern: re.Pattern[bytes], offset: int) -> int | None:
        """Return the position of the next match of a pattern of two bytes; None at the end of the file."""
        while offset < self.size:
            at = offset - self._start
            if not 0 <= at < len(self._window) - 1:
                self._fetch(offset, min(2, self.size - offset))
                at = 0
            match = pattern.search(self._window, at)
            if match is not None:
                return self._start + match.start()
            if self._start + len(self._window) >= self.size:
                return None
            # The first byte of a match can be the last one of the window.
            offset = self._start + len(self._window) - 1
        return None

    def _fetch(self, offset: int, length: int) -> bytes:
        end = self._start + len(self._window)
        in_order = self._start <= offset <= end + self._ahead
        self._ahead = min(2 * self._ahead, _LARGEST_WINDOW) if in_order else _SMALLEST_WINDOW
        wanted = max(length, self._ahead)
        self._bytes_left -= wanted
        self._windows_left -= 1
        if self._bytes_left < 0 or self._windows_left < 0 or time.thread_time() > self._cpu_end:
            raise LimitExceeded("the structure of the file is too large")
        self._stream.seek(offset)
        self._start, self._window = offset, self._stream.read(wanted)
        return self._window
