"""Reprocess jobs: what they select, their state and their counts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from imago.core.jobs.stages import ImageStatus, Stage

DEFAULT_IMAGES_PER_MINUTE = 60
# The runner queues images one at a time, which takes about 5 ms each.
MAX_IMAGES_PER_MINUTE = 6000


class Phase(StrEnum):
    """The state of a job."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    """No images are queued; those that were queued continue."""
    COMPLETED = "completed"
    """The runs of all images have ended."""


@dataclass(frozen=True)
class Selection:
    """The stages to run again, and the images to do so for; None means no filter.

    `clients` are uuids, and none means all clients. `taken_*` are camera-local times; all bounds are inclusive. The
    ocr stage runs only if its text was not read by `engine_not`, the vision stage only if its result is not by
    `model_not`.
    """

    stages: tuple[Stage, ...]
    clients: tuple[UUID, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    taken_from: datetime | None = None
    taken_to: datetime | None = None
    status: ImageStatus | None = None
    tag: str | None = None
    engine_not: str | None = None
    model_not: str | None = None

    def overlaps(self, other: "Selection") -> bool:
        """Return whether both may select the same stage of the same image, whatever the other filters."""
        same_clients = not self.clients or not other.clients or set(self.clients) & set(other.clients)
        return bool(same_clients and set(self.stages) & set(other.stages))

    def to_json(self) -> dict[str, Any]:
        """Return the selection as the database stores it."""
        moments = {name: getattr(self, name) for name in _MOMENTS}
        return {
            "stages": [str(stage) for stage in self.stages],
            "clients": [str(client) for client in self.clients],
            **{name: None if moment is None else moment.isoformat() for name, moment in moments.items()},
            "status": None if self.status is None else str(self.status),
            "tag": self.tag,
            "engine_not": self.engine_not,
            "model_not": self.model_not,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Selection":
        """Return the selection from its JSON, or from a request with the same members; missing ones are None."""
        moments = {name: data.get(name) for name in _MOMENTS}
        return cls(
            stages=tuple(dict.fromkeys(Stage(name) for name in data["stages"])),
            clients=tuple(dict.fromkeys(UUID(str(client)) for client in data.get("clients") or ())),
            status=None if data.get("status") is None else ImageStatus(data["status"]),
            tag=data.get("tag"),
            engine_not=data.get("engine_not"),
            model_not=data.get("model_not"),
            **{
                name: datetime.fromisoformat(moment) if isinstance(moment, str) else moment
                for name, moment in moments.items()
            },
        )


_MOMENTS = ("created_from", "created_to", "taken_from", "taken_to")


@dataclass(frozen=True)
class Counts:
    """Images of a job. `queued` is the sum of `done`, `failed`, `cancelled` and those whose runs have not ended.

    `cancelled` were deleted, or got newer runs, before their runs ended. `skipped` matched when the job was created and
    not when their turn came; they are known when the last image was queued.
    """

    matched: int = 0
    queued: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0

    @property
    def unfinished(self) -> int:
        """Images that are to be queued, or whose runs have not ended."""
        return max(0, self.matched - self.skipped - self.done - self.failed - self.cancelled)


@dataclass(frozen=True)
class ReprocessJob:
    """A job. `cursor` is the id of the last image that it has looked at, and `up_to` that of the last it will look at.

    Results that ended at or after `since` are new: the job does not run their stages again.
    """

    id: int
    uuid: UUID
    selection: Selection
    images_per_minute: int
    suspended: bool
    since: datetime
    cursor: int
    up_to: int
    counts: Counts
    next_at: datetime
    progress_at: datetime
    created_by: str
    created_at: datetime
    completed_at: datetime | None

    @property
    def phase(self) -> Phase:
        """The state of the job."""
        if self.completed_at is not None:
            return Phase.COMPLETED
        return Phase.SUSPENDED if self.suspended else Phase.RUNNING

    @property
    def is_queueing(self) -> bool:
        """Whether there may be images left to queue."""
        return self.cursor < self.up_to

    def limited_to(self, stages_off: frozenset[Stage]) -> "ReprocessJob":
        """Return the job without stages that the server has disabled since it was created."""
        left = tuple(stage for stage in self.selection.stages if stage not in stages_off)
        return replace(self, selection=replace(self.selection, stages=left))
