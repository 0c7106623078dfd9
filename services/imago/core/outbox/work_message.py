"""Work messages: each requests one run of one stage of one image."""

from dataclasses import dataclass
from uuid import UUID

from imago.core.jobs.stages import Stage

VERSION = 1


class BadMessage(ValueError):
    """A work message that this version cannot parse; it is terminated, because a redelivery would not help."""


@dataclass(frozen=True)
class WorkMessage:
    """One run of one stage of one image; `epoch` is incremented when the run is republished."""

    image: UUID
    client: UUID
    stage: Stage
    run: int
    epoch: int

    @property
    def message_id(self) -> str:
        """The `Nats-Msg-Id`; it contains the epoch, so that a republication is not deduplicated."""
        return f"{self.image}:{self.stage}:{self.run}:{self.epoch}"

    def to_json(self) -> dict[str, object]:
        """Return the payload."""
        return {
            "v": VERSION,
            "image": str(self.image),
            "client": str(self.client),
            "stage": str(self.stage),
            "run": self.run,
            "epoch": self.epoch,
        }

    @classmethod
    def from_json(cls, payload: object) -> "WorkMessage":
        """Parse a payload; raise BadMessage."""
        if not isinstance(payload, dict) or payload.get("v") != VERSION:
            raise BadMessage("not a work message of version 1")
        try:
            return cls(
                image=UUID(payload["image"]),
                client=UUID(payload["client"]),
                stage=Stage(payload["stage"]),
                run=int(payload["run"]),
                epoch=int(payload["epoch"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadMessage(f"work message with an invalid field: {error}") from error
