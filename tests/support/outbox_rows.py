"""Outbox rows for tests that publish without a database."""

from uuid import uuid4

from imago.core.jobs.stages import Stage
from imago.core.outbox.model import OutboxKind, OutboxRow
from imago.core.outbox.subjects import work_subject


def work_row(stage: Stage = Stage.EXIF, lane: str = "standard", *, message_id: str | None = None) -> OutboxRow:
    """Return a work message of a stage in a lane."""
    message_id = message_id or uuid4().hex
    return OutboxRow(1, OutboxKind.WORK, work_subject(lane, stage, uuid4()), {"n": message_id}, {}, message_id)
