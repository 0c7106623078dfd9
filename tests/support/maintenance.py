"""Helpers that read and change the streams and the outbox."""

from datetime import timedelta

import sqlalchemy as sa

from imago.core.outbox.subjects import work_stream
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.db.tables import image_stages, outbox
from imago.maintenance.outbox_relay import OutboxRelay
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.settings import Settings

SETTINGS = Settings(heartbeat=0.1)


async def count_messages(nats: NatsConnection, lane: str = "standard") -> int:
    """Return the number of messages in a lane's stream."""
    return (await nats.js.stream_info(work_stream(lane))).state.messages


async def count_located(db: Database, lane: str | None = None) -> int:
    """Return the number of stages whose message has a recorded position, in one lane or in all."""
    query = sa.select(sa.func.count()).select_from(image_stages).where(image_stages.c.sequence.is_not(None))
    if lane is not None:
        query = query.where(image_stages.c.lane == lane)
    async with db.read() as connection:
        return await connection.scalar(query) or 0


async def make_due(db: Database) -> None:
    """Make all rows of the outbox due."""
    async with db.write() as connection:
        await connection.execute(sa.update(outbox).values(due_at=utc_now() - timedelta(seconds=1)))


async def publish_outbox(db: Database, nats: NatsConnection, publisher: Publisher) -> None:
    """Publish all rows of the outbox, as the relay does after a crash."""
    await make_due(db)
    await OutboxRelay(db, nats, publisher).run_once()
