"""Objects as files of a directory: written aside, made durable, then renamed into place."""

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

# A hop to a thread costs more than writing a small chunk, so chunks are gathered up to this.
_BATCH = 1024 * 1024

# Files a crashed process was writing; no upload lasts that long (UPLOAD_TOTAL_TIMEOUT).
_LEFTOVER_SECONDS = 3600.0


class LocalStore:
    """An `ObjectStore` in a directory; its signed URLs are served by the API."""

    def __init__(self, root: Path, *, url_secret: str) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        self._url_secret = url_secret

    def prepare(self) -> None:
        """Make the directories, and remove what crashed processes left; raises OSError."""
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
                    leftover.unlink()

    def path(self, key: str) -> Path:
        """Return where an object lies; raise ValueError for a key that could lead elsewhere."""
        segments = key.split("/")
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise ValueError("not an object key")
        return self._root.joinpath(*segments)

    @asynccontextmanager
    async def create(self, key: str) -> AsyncIterator[ObjectWriter]:
        """Begin an object; leaving the block without `commit` leaves nothing behind."""
        writer = _LocalWriter(self._temporary(key), self.path(key))
        try:
            yield writer
        finally:
            if writer.begun:
                # Shielded, because this is also how a cancelled upload ends.
                await asyncio.shield(asyncio.to_thread(writer.discard))

    async def put(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a small finished file, in place of what the key held."""
        with _mapped():
            await asyncio.to_thread(self._put, path, key)

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None where there is none."""
        try:
            return (await asyncio.to_thread(self.path(key).stat)).st_size
        except FileNotFoundError:
            return None

    async def examine(self, key: str, read: Callable[[BinaryIO], T]) -> T:
        """Return what a function makes of an object that seeks, in a thread; raises ObjectMissing."""
        path = self.path(key)

        def opened() -> T:
            with _mapped():
                file = path.open("rb")
            with file:
                return read(file)

        return await asyncio.to_thread(opened)

    @asynccontextmanager
    async def reader(self, key: str) -> AsyncIterator[BinaryIO]:
        """Open an object for seeking and reading in a thread; raises ObjectMissing."""
        with _mapped():
            file = await asyncio.to_thread(self.path(key).open, "rb")
        try:
            yield file
        finally:
            await asyncio.to_thread(file.close)

    @asynccontextmanager
    async def local_copy(self, key: str) -> AsyncIterator[Path]:
        """Give the object's own path, which must only be read."""
        if await self.size(key) is None:
            raise ObjectMissing(key)
        yield self.path(key)

    async def delete(self, key: str) -> None:
        """Delete an object, what a killed process had written of it, and the folders it leaves empty.

        Nothing happens where there is none.
        """
        with _mapped():
            await asyncio.to_thread(self._delete, key)

    async def list(self, *, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Give all objects under a prefix, in the order of their keys."""
        for info in await asyncio.to_thread(lambda: sorted(self._walk(prefix), key=attrgetter("key"))):
            yield info

    async def signed_url(self, request: UrlRequest) -> str:
        """Return the path of a URL that the API serves."""
        return f"/files/signed/{make_token(request, self._url_secret)}"

    async def check(self) -> None:
        """Raise StorageUnavailable unless a file can be written."""
        probe = self._incoming / f"check-{uuid.uuid4().hex}"
        try:
            with _mapped():
                await asyncio.to_thread(probe.write_bytes, b"")
        finally:
            await asyncio.to_thread(probe.unlink, missing_ok=True)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _temporary(self, key: str) -> Path:
        # The name tells the key, so that deleting the key finds what was never finished.
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
                # Not empty, or made anew at this moment.
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
    """Opens its file with the first bytes that it writes, in the same hop to a thread; small objects take one hop."""

    def __init__(self, temporary: Path, target: Path) -> None:
        self._file: BinaryIO | None = None
        self._temporary = temporary
        self._target = target
        self._batch: list[bytes] = []
        self._batched = 0
        self._working = threading.Lock()
        self._discarded = False
        self.begun = False
        """Whether there is, or may be by now, something to discard."""

    async def write(self, chunk: bytes) -> None:
        self._batch.append(chunk)
        self._batched += len(chunk)
        if self._batched >= _BATCH:
            await self._in_thread(self._flush)

    async def commit(self) -> None:
        await self._in_thread(self._commit)
        self.begun = False

    def discard(self) -> None:
        with self._working:
            self._discarded = True
            if self._file is not None:
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    async def _in_thread(self, work: Callable[[list[bytes]], None]) -> None:
        batch, self._batch, self._batched = self._batch, [], 0
        self.begun = True
        with _mapped():
            await asyncio.to_thread(self._unless_discarded, work, batch)

    def _unless_discarded(self, work: Callable[[list[bytes]], None], batch: list[bytes]) -> None:
        # An upload that is cancelled doesn't stop its thread, which would make the file anew behind the discarding.
        with self._working:
            if not self._discarded:
                work(batch)

    def _flush(self, batch: list[bytes]) -> None:
        self._opened().writelines(batch)

    def _commit(self, batch: list[bytes]) -> None:
        file = self._opened()
        file.writelines(batch)
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
    """Move a finished file into place and make the move durable."""
    while True:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            temporary.replace(target)
        except FileNotFoundError:
            # A deletion took the folder away between the two calls.
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
def _mapped() -> Iterator[None]:
    """Turn the system's errors into the store's; their texts hold paths and stay inside."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing("no such object") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("no room left") from error
        raise StorageUnavailable(errno.errorcode.get(error.errno or 0, "OSError")) from error
