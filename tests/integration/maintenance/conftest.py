"""A publisher with its streams, and helpers that read the streams and the outbox."""

from collections.abc import AsyncIterator

import pytest

from imago.db.engine import Database
from imago.maintenance.eager_publisher import EagerPublisher
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_streams
from tests.support.maintenance import SETTINGS


@pytest.fixture
async def publisher(nats: NatsConnection) -> Publisher:
    """A publisher with all streams."""
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=SETTINGS.ack_wait))
    return Publisher(nats, timeout=5)


@pytest.fixture
async def eager_publisher(db: Database, publisher: Publisher) -> AsyncIterator[EagerPublisher]:
    """A running eager publisher."""
    eager = EagerPublisher(db, publisher, by="test")
    await eager.start()
    yield eager
    await eager.close()
