"""How many uploads, and how many bytes of them, one client may have under way in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from imago.core.errors import TooManyUploads
from imago.settings import Settings
from imago.settings.uploads import MB

# An upload of ordinary size is over by then.
_RETRY_SECONDS = 2


class UploadSlots:
    """Counts what is under way; limits are per process, because what they protect is the process."""

    def __init__(self, settings: Settings) -> None:
        self._uploads = settings.uploads_per_client
        self._bytes = settings.upload_mb_per_client * MB
        self._largest = settings.max_upload_bytes
        self._count: Counter[int] = Counter()
        self._sizes: Counter[int] = Counter()

    @contextmanager
    def hold(self, client_id: int, announced: int | None) -> Iterator[None]:
        """Hold a place for an upload of an announced size, or of the largest; raise TooManyUploads."""
        size = min(announced if announced is not None else self._largest, self._largest)
        if self._count[client_id] >= self._uploads or (
            # One alone always gets through, however small the limit.
            self._count[client_id] and self._sizes[client_id] + size > self._bytes
        ):
            raise TooManyUploads(
                f"{self._count[client_id]} uploads of this client are under way.",
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
