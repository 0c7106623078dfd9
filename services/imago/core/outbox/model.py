"""Rows of the outbox, and the protocol of their publisher."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from imago.core.jobs.stages import Stage


class OutboxKind(StrEnum):
    """The kind of message in a row."""

    WORK = "work"
    EVENT = "event"
    DEAD = "dead"


@dataclass(frozen=True)
class WorkRef:
    """The run and epoch that a work row publishes; its stage records the message's position in the stream."""

    image_id: int
    stage: Stage
    run: int
    epoch: int
    lane: str


@dataclass(frozen=True)
class OutboxRow:
    """A message to publish; `headers` contain the trace context of the request that caused it."""

    id: int
    kind: OutboxKind
    subject: str
    payload: dict[str, Any]
    headers: dict[str, str]
    message_id: str
    work: WorkRef | None = None


# The process that commits a row publishes it immediately. The relay takes only rows older than this, so that a row is
# not usually published twice. A message is therefore this late after a crash.
HEAD_START = timedelta(seconds=2)


class OutboxPublisher(Protocol):
    """Publishes the rows of committed transactions in the background."""

    def publish_soon(self, rows: Sequence[OutboxRow]) -> None:
        """Publish the rows without blocking the caller; the relay publishes those that cannot be published now."""
        ...
