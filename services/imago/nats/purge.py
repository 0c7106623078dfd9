"""Deletes the messages of a client or of a stage."""

from collections.abc import Iterable
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from imago.core.jobs.stages import Stage
from imago.core.lanes.model import client_token
from imago.core.outbox.subjects import (
    DEAD_STREAM,
    EVENTS_STREAM,
    client_dead_subjects,
    client_event_subjects,
    client_work_subjects,
    work_stream,
    work_subjects,
)
from imago.nats.streams import delete_lane, existing_lanes


async def purge_client(js: JetStreamContext, client: UUID) -> int:
    """Delete a client's events, dead letters, work and dedicated lane, and return the number of messages deleted.

    Idempotent. Raises the errors of the NATS client.
    """
    dedicated = client_token(client)
    targets = [(EVENTS_STREAM, client_event_subjects(client)), (DEAD_STREAM, client_dead_subjects(client))]
    lanes = await existing_lanes(js)
    targets += [(work_stream(lane), client_work_subjects(lane, client)) for lane in lanes if lane != dedicated]
    purged = sum([await _purge_subjects(js, stream, subjects) for stream, subjects in targets])
    if dedicated in lanes:
        purged += (await js.stream_info(work_stream(dedicated))).state.messages
        await delete_lane(js, dedicated)
    return purged


async def purge_stages(js: JetStreamContext, stages: Iterable[Stage]) -> int:
    """Delete the work of stages in all lanes; return the number of messages. Raises the errors of the NATS client."""
    lanes = await existing_lanes(js)
    targets = [(work_stream(lane), work_subjects(lane, stage)) for stage in stages for lane in lanes]
    return sum([await _purge_subjects(js, stream, subjects) for stream, subjects in targets])


async def _purge_subjects(js: JetStreamContext, stream: str, subjects: str) -> int:
    try:
        info = await js.stream_info(stream, subjects_filter=subjects)
        messages = sum((info.state.subjects or {}).values())
        if messages:
            await js.purge_stream(stream, subject=subjects)
    except NotFoundError:
        return 0
    return messages
