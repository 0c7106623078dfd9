"""Messages that are not in the outbox yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from imago.core.images.model import ImageIdentity
from imago.core.jobs.stages import Stage
from imago.core.outbox.events import Event, EventName
from imago.core.outbox.model import OutboxKind, WorkRef
from imago.core.outbox.subjects import dead_subject, event_subject, work_subject
from imago.core.outbox.work_message import WorkMessage
from imago.core.times import iso_utc


@dataclass(frozen=True)
class Draft:
    """A row to insert into the outbox; with `due_at` it is parked there until then."""

    client_id: int
    kind: OutboxKind
    subject: str
    payload: dict[str, object]
    message_id: str
    headers: Mapping[str, str]
    work: WorkRef | None = None
    due_at: datetime | None = None


def draft_work(
    image: ImageIdentity,
    stage: Stage,
    *,
    run: int,
    epoch: int,
    lane: str,
    headers: Mapping[str, str],
    due_at: datetime | None = None,
) -> Draft:
    """Draft the work message of one epoch of a run."""
    message = WorkMessage(image.uuid, image.client, stage, run, epoch)
    return Draft(
        image.client_id,
        OutboxKind.WORK,
        work_subject(lane, stage, image.client),
        message.to_json(),
        message.message_id,
        headers,
        WorkRef(image.id, stage, run, epoch, lane),
        due_at,
    )


def draft_event(
    image: ImageIdentity,
    name: EventName,
    *,
    at: datetime,
    headers: Mapping[str, str],
    stage: Stage | None = None,
    run: int | None = None,
    status: str | None = None,
) -> Draft:
    """Draft an event for the client."""
    event = Event(uuid4(), name, image.client, image.id, image.uuid, at, stage, run, status)
    subject = event_subject(image.client, image.uuid, name)
    return Draft(image.client_id, OutboxKind.EVENT, subject, event.to_json(), str(event.event_id), headers)


def draft_dead_letter(
    image: ImageIdentity,
    stage: Stage,
    *,
    run: int,
    lane: str,
    attempts: int,
    error_code: str,
    at: datetime,
    headers: Mapping[str, str],
) -> Draft:
    """Draft the dead letter of a run."""
    payload: dict[str, object] = {
        "v": 1,
        "image": str(image.uuid),
        "client": str(image.client),
        "stage": str(stage),
        "run": run,
        "attempts": attempts,
        "error_code": error_code,
        "at": iso_utc(at),
    }
    message_id = f"{image.uuid}:{stage}:{run}:dead"
    subject = dead_subject(lane, stage, image.client)
    return Draft(image.client_id, OutboxKind.DEAD, subject, payload, message_id, headers)
