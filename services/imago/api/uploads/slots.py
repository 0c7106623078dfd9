"""Limits on the number and bytes of a client's concurrent uploads in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from imago.core.errors import TooManyUploads
from imago.settings import Settings
from imago.settings.uploads import MB

# An upload of ordinary size takes less.
_RETRY_SECONDS = 2


class UploadSlots:
    """Counts uploads in progress. The limits protect the process and are therefore per process."""

    def __init__(self, settings: Settings) -> None:
        self._uploads = settings.uploads_per_client
        self._bytes = settings.upload_mb_per_client * MB
        self._largest = settings.max_upload_bytes
        self._count: Counter[int] = Counter()
        self._sizes: Counter[int] = Counter()

    @contextmanager
    def hold(self, client_id: int, size_hint: int | None) -> Iterator[None]:
        """Reserve a slot for an upload of the given size, by default the maximum; raise TooManyUploads."""
        size = min(size_hint if size_hint is not None else self._largest, self._largest)
        if self._count[client_id] >= self._uploads or (
            # A client's only upload is always admitted, even if it exceeds the limit.
            self._count[client_id] and self._sizes[client_id] + size > self._bytes
        ):
            raise TooManyUploads(
                f"This client has {self._count[client_id]} uploads in progress.",
                extra={"uploads": self._uploads, "bytes": self._bytes},
                retry_after=_RETRY_SECONDS,
            )
        self._count[client_id] += 1
        self._sizes[client_id] += size
        try:
            yield
        finally:
            self._count[client_id] -= 1
            self._sizes[client_id] -= size
            if self._count[client_id] == 0:
                del self._count[client_id], self._sizes[client_id]
