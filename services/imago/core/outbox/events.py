"""Events for clients: their names and their data."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from imago.core.jobs.stages import Stage
from imago.core.times import iso_utc

VERSION = 1


class EventName(StrEnum):
    """The names of events; `image.done` is sent for the statuses done, partial and failed."""

    IMAGE_CREATED = "image.created"
    STAGE_DONE = "stage.done"
    STAGE_RETRYING = "stage.retrying"
    STAGE_DEAD = "stage.dead"
    IMAGE_DONE = "image.done"
    IMAGE_DELETED = "image.deleted"


@dataclass(frozen=True)
class Event:
    """A change of an image or of one of its stages; delivered at least once."""

    event_id: UUID
    name: EventName
    client: UUID
    image_id: int
    image_uuid: UUID
    at: datetime
    stage: Stage | None = None
    run: int | None = None
    status: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the data sent to the client; the client's uuid is only in the subject."""
        return {
            "v": VERSION,
            "event_id": str(self.event_id),
            "name": str(self.name),
            "image_id": self.image_id,
            "image_uuid": str(self.image_uuid),
            "stage": str(self.stage) if self.stage else None,
            "run": self.run,
            "status": self.status,
            "at": iso_utc(self.at),
        }
