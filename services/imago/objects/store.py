"""The interface of object stores."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar

T = TypeVar("T")

Disposition = Literal["inline", "attachment"]


class ObjectMissing(Exception):
    """No object has this key."""


class StorageUnavailable(Exception):
    """The store can't be reached or times out; a later retry may succeed."""


class StorageFull(StorageUnavailable):
    """The store has no space left."""


@dataclass(frozen=True)
class ObjectInfo:
    """A stored object."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class UrlRequest:
    """A request for a signed URL: one object, served with this content type and file name until it expires."""

    key: str
    content_type: str
    filename: str
    disposition: Disposition
    expires_at: datetime


class ObjectWriter(Protocol):
    """Writes an object, which exists only after `commit`."""

    async def write(self, chunk: bytes) -> None:
        """Append bytes; raise StorageUnavailable or StorageFull."""
        ...

    async def commit(self) -> None:
        """Make the object durable and visible."""
        ...


class ObjectStore(Protocol):
    """Stores objects by key. All methods raise StorageUnavailable while the store is unavailable."""

    def write_buffer(self, size: int) -> int:
        """Return how much memory a writer takes at most for an object of this size, beside the chunk it writes."""
        ...

    def create(self, key: str) -> AbstractAsyncContextManager[ObjectWriter]:
        """Write a new object; without `commit`, the block leaves nothing behind."""
        ...

    async def put(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a small file, replacing an existing object."""
        ...

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if it doesn't exist."""
        ...

    async def examine(self, key: str, read: Callable[[BinaryIO], T]) -> T:
        """Return the result of a function that reads the object in a thread; raise ObjectMissing."""
        ...

    def reader(self, key: str) -> AbstractAsyncContextManager[BinaryIO]:
        """Open an object as a seekable file to be read in a thread; raise ObjectMissing."""
        ...

    def local_copy(self, key: str) -> AbstractAsyncContextManager[Path]:
        """Yield a path from which the object can be read in the block; raise ObjectMissing."""
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; do nothing if it doesn't exist."""
        ...

    def list(self, *, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield the objects with a prefix, ordered by key."""
        ...

    async def signed_url(self, request: UrlRequest) -> str:
        """Return a URL that serves one object: a path beginning with `/` if the API itself serves it."""
        ...

    async def check(self) -> None:
        """Raise StorageUnavailable if the store can't be used."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
