"""Removes a client's messages from every stream."""

from uuid import UUID

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from imago.core.lanes.model import client_token
from imago.core.outbox.subjects import (
    DEAD_STREAM,
    EVENTS_STREAM,
    client_dead_subjects,
    client_event_subjects,
    client_work_subjects,
    work_stream,
)
from imago.nats.streams import delete_lane, existing_lanes


async def purge_client(js: JetStreamContext, client: UUID) -> int:
    """Purge a client's events, dead letters and work, and its own lane's stream; return how many messages there were.

    Idempotent. Raises nats' errors.
    """
    own = client_token(client)
    places = [(EVENTS_STREAM, client_event_subjects(client)), (DEAD_STREAM, client_dead_subjects(client))]
    lanes = await existing_lanes(js)
    places += [(work_stream(lane), client_work_subjects(lane, client)) for lane in lanes if lane != own]
    count = 0
    for stream, subjects in places:
        try:
            info = await js.stream_info(stream, subjects_filter=subjects)
            found = sum((info.state.subjects or {}).values())
            if found:
                await js.purge_stream(stream, subject=subjects)
            count += found
        except NotFoundError:
            continue
    if own in lanes:
        count += (await js.stream_info(work_stream(own))).state.messages
        await delete_lane(js, own)
    return count
