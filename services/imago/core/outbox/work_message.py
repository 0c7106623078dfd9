"""Work messages: what travels through a work stream for one run of one stage of one image."""

from dataclasses import dataclass
from uuid import UUID

from imago.core.jobs.stages import Stage

VERSION = 1


class BadMessage(ValueError):
    """A work message that this version can't read; it is terminated, because no retry makes it readable."""


@dataclass(frozen=True)
class WorkMessage:
    """One run of one stage of one image; `epoch` grows each time the same run is published again."""

    image: UUID
    client: UUID
    stage: Stage
    run: int
    epoch: int

    @property
    def message_id(self) -> str:
        """The `Nats-Msg-Id`: the run and the epoch keep a deliberate republication out of deduplication."""
        return f"{self.image}:{self.stage}:{self.run}:{self.epoch}"

    def to_json(self) -> dict[str, object]:
        """Return the payload as it is published."""
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
        """Read a published payload; raise BadMessage on anything else."""
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
            raise BadMessage(f"work message with a wrong field: {error}") from error
