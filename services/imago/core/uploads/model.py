"""An upload as the API hands it over, and the image that comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from imago.core.images.model import ImageHeader
from imago.core.images.results import ThumbnailResult
from imago.core.jobs.stages import OPTIONAL_STAGES, ImageStatus, Stage
from imago.core.outbox.model import OutboxRow


@dataclass(frozen=True)
class InlineThumbnail:
    """A thumbnail that was made and stored during the upload (`THUMBNAIL_MODE=inline`)."""

    object_key: str
    result: ThumbnailResult


@dataclass(frozen=True)
class NewImage:
    """An upload whose object is stored and whose header was read."""

    intent_id: int
    uuid: UUID
    original_name: str
    header: ImageHeader
    size_bytes: int
    sha256: str
    object_key: str
    traceparent: Mapping[str, str]
    stages_off: frozenset[Stage] = OPTIONAL_STAGES
    thumbnail: InlineThumbnail | None = None


@dataclass(frozen=True)
class AcceptedImage:
    """An image whose acceptance is committed, and the messages to publish about it."""

    id: int
    uuid: UUID
    original_name: str
    status: ImageStatus
    duplicate_of: int | None
    outbox: tuple[OutboxRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the response to the upload and to every replay of it."""
        return {
            "id": self.id,
            "uuid": str(self.uuid),
            "original_name": self.original_name,
            "status": str(self.status),
            "duplicate_of": self.duplicate_of,
        }
