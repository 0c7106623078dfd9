"""How much work waits in the streams: by lane and stage, with the numbers that KEDA scales by."""

import contextlib
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from imago.core.jobs.stages import STAGES, Stage
from imago.core.outbox.subjects import work_stream
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.streams import existing_lanes


@dataclass(frozen=True)
class QueueLag:
    """Messages of a stage in a lane: not yet delivered, and in a worker's hands. Their sum is KEDA's lag."""

    lane: str
    stage: Stage
    pending: int
    delivered: int


async def queue_lag(nats: NatsConnection) -> list[QueueLag]:
    """Ask the consumers of all work streams; one that is missing is the reconciler's to make. Raises BusUnavailable."""
    if not nats.connected:
        raise NatsUnavailable("not connected")
    found = []
    try:
        for lane in await existing_lanes(nats.js):
            for stage in STAGES:
                with contextlib.suppress(NotFoundError):
                    info = await nats.js.consumer_info(work_stream(lane), stage)
                    found.append(QueueLag(lane, stage, info.num_pending or 0, info.num_ack_pending or 0))
    except (NatsError, OSError, TimeoutError) as error:
        raise NatsUnavailable(type(error).__name__) from error
    return found
