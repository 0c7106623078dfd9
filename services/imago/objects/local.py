"""Objects as local files: written to a temporary file, synced, and renamed into place."""

import asyncio
import contextlib
import errno
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
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
        for temporary in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - temporary.stat().st_mtime > _MAX_TEMPORARY_AGE_SECONDS:
                    temporary.unlink()

    def path(self, key: str) -> Path:
        """Return the path of an object; raise ValueError for a key that could leave the directory."""
        segments = key.split("/")
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise ValueError("not an object key")
        return self._root.joinpath(*segments)

    @asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[ObjectWriter]:
        """Write a new object; without `commit`, the block leaves nothing behind."""
        writer = _LocalWriter(self._temporary(key), self.path(key))
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
            return (await asyncio.to_thread(self.path(key).stat)).st_size
        except FileNotFoundError:
            return None

    async def examine(self, key: str, read: Callable[[BinaryIO], T]) -> T:
        """Return the result of a function that reads the object in a thread; raise ObjectMissing."""
        path = self.path(key)

        def opened() -> T:
            with _translated_errors():
                file = path.open("rb")
            with file:
                return read(file)

        return await asyncio.to_thread(opened)

    @asynccontextmanager
    async def reader(self, key: str) -> AsyncIterator[BinaryIO]:
        """Open an object as a seekable file to be read in a thread; raise ObjectMissing."""
        with _translated_errors():
            file = await asyncio.to_thread(self.path(key).open, "rb")
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

    def _put(self, source: Path, key: str) -> None:
        target, temporary = self.path(key), self._temporary(key)
        try:
            shutil.copyfile(source, temporary)
            temporary.chmod(0o600)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            _rename(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _delete(self, key: str) -> None:
        path = self.path(key)
        for unfinished in self._incoming.glob(f"{_flat(key)}*"):
            unfinished.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self._root:
                return
            try:
                folder.rmdir()
            except OSError:
                # Not empty, or created again concurrently.
                return

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        for path in self._root.rglob("*"):
            key = path.relative_to(self._root).as_posix()
            if key.startswith(_INCOMING) or not key.startswith(prefix):
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.is_file():
                    yield ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))


class _LocalWriter:
    """Opens its file with the first write, so that a small object needs only one switch to a thread."""

    def __init__(self, temporary: Path, target: Path) -> None:
        self._file: BinaryIO | None = None
        self._temporary = temporary
        self._target = target
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
        _rename(self._temporary, self._target)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = _open_new(self._temporary)
        return self._file


def _flat(key: str) -> str:
    return key.replace("/", "+") + "+"


def _open_new(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


def _rename(temporary: Path, target: Path) -> None:
    """Rename a finished file to its final path and sync the directory."""
    while True:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            temporary.replace(target)
        except FileNotFoundError:
            # A deletion removed the directory between the two calls.
            if not temporary.exists():
                raise
            continue
        break
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate OSErrors into the store's errors without their texts, which contain paths."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing("object not found") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("no space left") from error
        raise StorageUnavailable(errno.errorcode.get(error.errno or 0, "OSError")) from error
