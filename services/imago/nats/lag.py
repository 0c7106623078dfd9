"""The lag of the work streams by lane and stage: the same numbers that KEDA scales by."""

import contextlib
from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from imago.core.jobs.stages import Stage
from imago.core.outbox.subjects import work_stream
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.streams import existing_lanes


@dataclass(frozen=True)
class QueueLag:
    """The messages of a stage in a lane: pending, and delivered but not acknowledged. KEDA's lag is their sum.

    `polls` are the open requests of workers for a message.
    """

    lane: str
    stage: Stage
    pending: int
    delivered: int
    polls: int = 0


async def queue_lag(nats: NatsConnection) -> list[QueueLag]:
    """Return the lag of every consumer of the work streams; raise NatsUnavailable.

    A missing consumer is left out: the stream reconciler creates it.
    """
    if not nats.connected:
        raise NatsUnavailable("not connected")
    lags = []
    try:
        for lane in await existing_lanes(nats.js):
            for stage in Stage:
                with contextlib.suppress(NotFoundError):
                    info = await nats.js.consumer_info(work_stream(lane), stage)
                    pending, delivered = info.num_pending or 0, info.num_ack_pending or 0
                    lags.append(QueueLag(lane, stage, pending, delivered, info.num_waiting or 0))
    except (NatsError, OSError, TimeoutError) as error:
        raise NatsUnavailable(type(error).__name__) from error
    return lags
