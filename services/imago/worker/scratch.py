"""Temporary folders of tries, kept to be used again: an ext4 takes a millisecond to remove one, and the loop stands."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Scratch:
    """Gives each try a folder that is empty and no other try's meanwhile."""

    def __init__(self) -> None:
        self._free: list[Path] = []

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Lend a folder; raise OSError where none can be made.

        It is used again only where the block ended well: what fails may leave a process behind that still writes.
        """
        path = self._taken() or Path(tempfile.mkdtemp(prefix="imago-"))
        try:
            yield path
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        try:
            for left in path.iterdir():
                left.unlink()
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
        else:
            self._free.append(path)

    def close(self) -> None:
        """Remove the folders that nobody uses."""
        while self._free:
            shutil.rmtree(self._free.pop(), ignore_errors=True)

    def _taken(self) -> Path | None:
        while self._free:
            path = self._free.pop()
            # Systems clean their temporary folders of what was not used for long, and then another user may take the
            # name, for a link too.
            with contextlib.suppress(OSError):
                found = path.lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                    return path
        return None
