"""Objects as local files: written to a temporary file, synced, and renamed into place.

Every directory below the root is opened relative to its parent without following links, so that a link that somebody
planted among the objects leads nowhere: what it points to is not an object.
"""

import asyncio
import contextlib
import errno
import functools
import os
import re
import shutil
import stat
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from imago.objects.signing import make_token
from imago.objects.store import ObjectInfo, ObjectMissing, ObjectWriter, StorageFull, StorageUnavailable, T, UrlRequest

_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_INCOMING = ".incoming"

# Small chunks are buffered up to this size, because switching to a thread costs more than writing them.
_BUFFER_BYTES = 1024 * 1024

# Older temporary files are from crashed processes; no upload lasts that long (UPLOAD_TOTAL_TIMEOUT).
_MAX_TEMPORARY_AGE_SECONDS = 3600.0


class LocalStore:
    """An `ObjectStore` in a directory. The API serves its signed URLs."""

    def __init__(self, root: Path, *, url_secret: str) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        self._url_secret = url_secret

    def prepare(self) -> None:
        """Create the directories and delete the temporary files of crashed processes; raise OSError."""
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._folder((_INCOMING,)):
            # Not a link.
            pass
        for temporary in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - temporary.lstat().st_mtime > _MAX_TEMPORARY_AGE_SECONDS:
                    temporary.unlink()

    def path(self, key: str) -> Path:
        """Return the path of an object; raise ValueError for a key that could leave the directory."""
        return self._root.joinpath(*_segments(key))

    def servable(self, key: str) -> Path | None:
        """Return the path of an object, or None if there is no such object; raise ValueError like `path`."""
        try:
            with _translated_errors():
                self._status(key)
        except ObjectMissing:
            return None
        return self.path(key)

    def write_buffer(self, size: int) -> int:
        """Return 0: each chunk goes to the file."""
        return 0

    @asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[ObjectWriter]:
        """Write a new object; without `commit`, the block leaves nothing behind."""
        writer = _LocalWriter(self._temporary(key), functools.partial(self._move_in, key=key))
        try:
            yield writer
        finally:
            if writer.needs_discard:
                # Shielded, because a cancelled upload also ends here.
                await asyncio.shield(asyncio.to_thread(writer.discard))

    async def put(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a small file, replacing an existing object."""
        with _translated_errors():
            await asyncio.to_thread(self._put, path, key)

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if it doesn't exist."""
        try:
            with _translated_errors():
                return (await asyncio.to_thread(self._status, key)).st_size
        except ObjectMissing:
            return None

    async def examine(self, key: str, read: Callable[[BinaryIO], T]) -> T:
        """Return the result of a function that reads the object in a thread; raise ObjectMissing."""

        def opened() -> T:
            with _translated_errors():
                file = self._open(key)
            with file:
                return read(file)

        return await asyncio.to_thread(opened)

    @asynccontextmanager
    async def reader(self, key: str) -> AsyncIterator[BinaryIO]:
        """Open an object as a seekable file to be read in a thread; raise ObjectMissing."""
        with _translated_errors():
            file = await asyncio.to_thread(self._open, key)
        try:
            yield file
        finally:
            await asyncio.to_thread(file.close)

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        """Yield the path of the object itself, which is read-only; raise ObjectMissing."""
        if await self.size(key) is None:
            raise ObjectMissing(key)
        yield self.path(key)

    async def delete(self, key: str) -> None:
        """Delete an object, its temporary files and empty parent directories; do nothing if it doesn't exist."""
        with _translated_errors():
            await asyncio.to_thread(self._delete, key)

    async def list(self, *, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects with a prefix, ordered by key."""
        for info in await asyncio.to_thread(lambda: sorted(self._walk(prefix), key=attrgetter("key"))):
            yield info

    async def signed_url(self, request: UrlRequest) -> str:
        """Return the path of a signed URL that the API serves."""
        return f"/files/signed/{make_token(request, self._url_secret)}"

    async def check(self) -> None:
        """Raise StorageUnavailable if no file can be written."""
        probe = self._incoming / f"check-{uuid.uuid4().hex}"
        try:
            with _translated_errors():
                await asyncio.to_thread(probe.write_bytes, b"")
        finally:
            await asyncio.to_thread(probe.unlink, missing_ok=True)

    async def close(self) -> None:
        """Do nothing."""

    def _temporary(self, key: str) -> Path:
        # Named after the key, so that `delete` finds temporary files of unfinished uploads, too.
        return self._incoming / f"{_flat(key)}{uuid.uuid4().hex}"

    @contextlib.contextmanager
    def _folder(self, names: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Open a directory below the root; raise OSError for a link on the way."""
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=folder)  # `Path.mkdir` has no dir_fd.
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _open(self, key: str) -> BinaryIO:
        *names, last = _segments(key)
        with self._folder(names) as folder:
            # Without O_NONBLOCK, a named pipe would wait for its writer.
            file = os.fdopen(os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise FileNotFoundError
        return file

    def _status(self, key: str) -> os.stat_result:
        *names, last = _segments(key)
        with self._folder(names) as folder:
            status = os.stat(last, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError
        return status

    def _move_in(self, temporary: Path, *, key: str) -> None:
        """Rename a finished file to its final path and sync the directory."""
        *names, last = _segments(key)
        while True:
            try:
                with self._folder(names, create=True) as folder:
                    os.replace(temporary, last, dst_dir_fd=folder)
                    os.fsync(folder)
            except FileNotFoundError:
                # A deletion removed the directory between the calls.
                if not temporary.exists():
                    raise
                continue
            return

    def _put(self, source: Path, key: str) -> None:
        temporary = self._temporary(key)
        try:
            shutil.copyfile(source, temporary)
            temporary.chmod(0o600)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            self._move_in(temporary, key=key)
        finally:
            temporary.unlink(missing_ok=True)

    def _delete(self, key: str) -> None:
        *names, last = _segments(key)
        for unfinished in self._incoming.glob(f"{_flat(key)}*"):
            unfinished.unlink(missing_ok=True)
        # The second: one of the directories is a link.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._folder(names) as folder:
            os.unlink(last, dir_fd=folder)
        while names:
            name = names.pop()
            try:
                with self._folder(names) as folder:
                    os.rmdir(name, dir_fd=folder)
            except OSError:
                # Not empty, or created again concurrently.
                return

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        for directory, folders, files in os.walk(self._root):
            if Path(directory) == self._root and _INCOMING in folders:
                folders.remove(_INCOMING)
            for path in (Path(directory, name) for name in files):
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    with contextlib.suppress(FileNotFoundError):
                        status = path.lstat()
                        if stat.S_ISREG(status.st_mode):
                            yield ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


class _LocalWriter:
    """Opens its file with the first write, so that a small object needs only one switch to a thread."""

    def __init__(self, temporary: Path, move_in: Callable[[Path], None]) -> None:
        self._file: BinaryIO | None = None
        self._temporary = temporary
        self._move_in = move_in
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._working = threading.Lock()
        self._discarded = False
        self.needs_discard = False
        """Whether a temporary file exists or may exist."""

    async def write(self, chunk: bytes) -> None:
        self._buffer.append(chunk)
        self._buffered += len(chunk)
        if self._buffered >= _BUFFER_BYTES:
            await self._in_thread(self._flush)

    async def commit(self) -> None:
        await self._in_thread(self._commit)
        self.needs_discard = False

    def discard(self) -> None:
        with self._working:
            self._discarded = True
            if self._file is not None:
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    async def _in_thread(self, work: Callable[[list[bytes]], None]) -> None:
        chunks, self._buffer, self._buffered = self._buffer, [], 0
        self.needs_discard = True
        with _translated_errors():
            await asyncio.to_thread(self._unless_discarded, work, chunks)

    def _unless_discarded(self, work: Callable[[list[bytes]], None], chunks: list[bytes]) -> None:
        # Cancelling an upload doesn't stop its thread, which could otherwise create the file again after `discard`.
        with self._working:
            if not self._discarded:
                work(chunks)

    def _flush(self, chunks: list[bytes]) -> None:
        self._opened().writelines(chunks)

    def _commit(self, chunks: list[bytes]) -> None:
        file = self._opened()
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._move_in(self._temporary)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = _open_new(self._temporary)
        return self._file


def _segments(key: str) -> list[str]:
    segments = key.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError("not an object key")
    return segments


def _flat(key: str) -> str:
    return key.replace("/", "+") + "+"


def _open_new(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate OSErrors into the store's errors without their texts, which contain paths."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing("object not found") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            # A link, or a file where a directory belongs.
            raise ObjectMissing("object not found") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("no space left") from error
        raise StorageUnavailable(errno.errorcode.get(error.errno or 0, "OSError")) from error
