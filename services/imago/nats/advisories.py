"""JetStream's advisories about messages that a consumer gave up, captured in a stream so that none is missed."""

from dataclasses import dataclass

import orjson
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from imago.core.outbox.subjects import ADVISORIES_STREAM
from imago.nats.connection import NatsConnection, NatsUnavailable

CONSUMER = "imago"


@dataclass(frozen=True)
class Advisory:
    """The message that a consumer will not deliver again, by its stream and sequence."""

    kind: str
    stream: str
    consumer: str
    sequence: int
    deliveries: int


@dataclass(frozen=True)
class AdvisoryMessage:
    """An advisory to acknowledge once it is handled; `advisory` is None if it can't be parsed."""

    advisory: Advisory | None
    message: Msg

    async def ack(self) -> None:
        """Acknowledge the advisory."""
        await self.message.ack()


async def ensure_consumer(nats: NatsConnection) -> None:
    """Create the durable consumer that all API processes share."""
    await nats.js.add_consumer(
        ADVISORIES_STREAM,
        ConsumerConfig(
            durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.ALL, ack_wait=30
        ),
    )


async def read_advisories(nats: NatsConnection, *, limit: int = 100, timeout: float = 1.0) -> list[AdvisoryMessage]:
    """Return up to `limit` pending advisories; raise NatsUnavailable."""
    try:
        await ensure_consumer(nats)
        subscription = await nats.js.pull_subscribe_bind(consumer=CONSUMER, stream=ADVISORIES_STREAM)
        try:
            messages = await subscription.fetch(limit, timeout=timeout)
        except NatsTimeout:
            messages = []
        finally:
            await subscription.unsubscribe()
    except (NatsError, OSError) as error:
        raise NatsUnavailable(type(error).__name__) from error
    return [AdvisoryMessage(parse(message.data), message) for message in messages]


def parse(data: bytes) -> Advisory | None:
    """Parse an advisory of type `io.nats.jetstream.advisory.v1.max_deliver` or `.terminated`."""
    try:
        body = orjson.loads(data)
        return Advisory(
            kind=str(body["type"]).rsplit(".", 1)[-1],
            stream=str(body["stream"]),
            consumer=str(body["consumer"]),
            sequence=int(body["stream_seq"]),
            deliveries=int(body.get("deliveries", 0)),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
