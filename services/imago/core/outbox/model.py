"""The outbox: what a transaction announces on JetStream, and who publishes it at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from imago.core.jobs.stages import Stage


class OutboxKind(StrEnum):
    """What a row announces."""

    WORK = "work"
    EVENT = "event"
    DEAD = "dead"


@dataclass(frozen=True)
class WorkRef:
    """Which publication of which run a work row is: where the answer of JetStream is noted."""

    image_id: int
    stage: Stage
    run: int
    epoch: int
    lane: str


@dataclass(frozen=True)
class OutboxRow:
    """One message to publish; `headers` hold the trace context of the request that caused it."""

    id: int
    kind: OutboxKind
    subject: str
    payload: dict[str, Any]
    headers: dict[str, str]
    message_id: str
    work: WorkRef | None = None


# The process that commits a row publishes it at once; the relay leaves it alone for this long, so that the two don't
# publish the same row in the ordinary case. A crash therefore costs a message this delay (C4 promises 5 s).
HEAD_START = timedelta(seconds=2)


class Announcer(Protocol):
    """Publishes the rows of a committed transaction soon, without making its caller wait."""

    def announce(self, rows: Sequence[OutboxRow]) -> None:
        """Take over the rows; what can't be published now is left to the relay."""
        ...
