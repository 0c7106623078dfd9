"""What a child prints: counted and limited, because a crafted image can make a decoder print without end."""

import asyncio
import os
import re
from dataclasses import dataclass

# More than any library prints about a file that it can read.
LIMIT = 64 * 1024
_EXCERPT = 300

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True)
class TaskOutput:
    """The output of one task: its size in bytes, as far as it was read, and its beginning in printable ASCII."""

    size: int
    excerpt: str

    @property
    def is_cut(self) -> bool:
        """Whether the task printed more."""
        return self.size > LIMIT


class ChildOutput:
    """Reads the pipe at a child's standard error, and closes it beyond `LIMIT` bytes of one task.

    The child's further writes then fail, and cost this process nothing.
    """

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._size = 0
        self._start = b""
        self.is_closed = False

    def start(self) -> None:
        """Read in the background; call it when the child has the other end."""
        os.close(self.writer)
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def take(self) -> TaskOutput:
        """Return the output since the last call."""
        while self._read():
            pass
        output = TaskOutput(self._size, _UNPRINTABLE.sub(" ", self._start.decode("ascii", "replace")))
        self._size, self._start = 0, b""
        return output

    def close(self) -> None:
        """Close the pipe."""
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)

    def _read(self) -> bool:
        """Read a piece; return whether there may be more."""
        if self.is_closed:
            return False
        try:
            piece = os.read(self._reader, 2**16)
        except BlockingIOError:
            return False
        self._size += len(piece)
        self._start = (self._start + piece)[:_EXCERPT]
        if not piece or self._size > LIMIT:
            self.close()
        return not self.is_closed
