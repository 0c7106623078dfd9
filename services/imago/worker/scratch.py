"""Temporary directories of attempts, reused because removing one on ext4 blocks the event loop for a millisecond."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


class ScratchDirectories:
    """Provides each attempt with an empty directory that no other attempt uses at the same time."""

    def __init__(self) -> None:
        self._free: list[Path] = []

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """Provide a directory for a block; raise OSError if none can be created.

        It is reused only after a block without an exception: a failed one may leave a process that still writes.
        """
        path = self._reuse() or Path(tempfile.mkdtemp(prefix="imago-"))
        try:
            yield path
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        try:
            for file in path.iterdir():
                file.unlink()
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
        else:
            self._free.append(path)

    def close(self) -> None:
        """Remove the unused directories."""
        while self._free:
            shutil.rmtree(self._free.pop(), ignore_errors=True)

    def _reuse(self) -> Path | None:
        while self._free:
            path = self._free.pop()
            # The system may have removed a directory that was not used for long, and another user may have taken its
            # name, possibly for a link.
            with contextlib.suppress(OSError):
                found = path.lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                    return path
        return None
