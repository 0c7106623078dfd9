"""The files of an image's work: paths, or open files whose paths the process neither knows nor could open."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TaskFile = Path | BinaryIO


@contextmanager
def reading(file: TaskFile) -> Iterator[BinaryIO]:
    """Provide a file for reading from its beginning; an open file stays open."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            yield stream
    else:
        file.seek(0)
        yield file


def write(file: TaskFile, data: bytes | memoryview) -> None:
    """Write the whole content of a file."""
    if isinstance(file, Path):
        file.write_bytes(data)
    else:
        file.write(data)
        file.flush()
