"""What every object store can do; local files and S3 do it alike."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar

T = TypeVar("T")

Disposition = Literal["inline", "attachment"]


class ObjectMissing(Exception):
    """There is no object of that key."""


class StorageUnavailable(Exception):
    """The store can't be reached or doesn't answer in time; trying again later may help."""


class StorageFull(StorageUnavailable):
    """The store has no room left."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object of the store."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class UrlRequest:
    """What a signed URL opens: one object, under a content type and a file name of our choosing, until it expires."""

    key: str
    content_type: str
    filename: str
    disposition: Disposition
    expires_at: datetime


class ObjectWriter(Protocol):
    """An object being written; it exists only after `commit`."""

    async def write(self, chunk: bytes) -> None:
        """Add bytes; raises StorageUnavailable or StorageFull."""
        ...

    async def commit(self) -> None:
        """Make the object be there, whole and durable."""
        ...


class ObjectStore(Protocol):
    """Where the bytes of images lie. All methods raise StorageUnavailable where the store is away."""

    def create(self, key: str) -> AbstractAsyncContextManager[ObjectWriter]:
        """Begin an object; leaving the block without `commit` leaves nothing behind."""
        ...

    async def put(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a small finished file, in place of what the key held."""
        ...

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None where there is none."""
        ...

    async def examine(self, key: str, read: Callable[[BinaryIO], T]) -> T:
        """Return what a function makes of an object that seeks, in a thread; raises ObjectMissing."""
        ...

    def reader(self, key: str) -> AbstractAsyncContextManager[BinaryIO]:
        """Open an object for seeking and reading in a thread; raises ObjectMissing."""
        ...

    def local_copy(self, key: str) -> AbstractAsyncContextManager[Path]:
        """Give a path to read an object from while the block lasts; raises ObjectMissing."""
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; nothing happens where there is none."""
        ...

    def list(self, *, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Give all objects under a prefix, in the order of their keys."""
        ...

    async def signed_url(self, request: UrlRequest) -> str:
        """Return a URL that opens one object; a path beginning with `/` where the API itself serves it."""
        ...

    async def check(self) -> None:
        """Raise StorageUnavailable unless the store answers."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
