"""Open stages whose message is in a lane that their client has left."""

import sqlalchemy as sa

from imago.core.jobs.stream_repair import IN_OUTBOX, IS_OPEN, OpenStage, open_stage
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, image_stages

# A stage in the outbox gets the client's present lane when it is published.
_IN_FORMER_LANE = sa.and_(IS_OPEN, image_stages.c.lane != clients.c.lane, ~IN_OUTBOX)


async def count_left_behind(db: Database, client_id: int) -> int:
    """Return how many of a client's open stages have their message in a lane other than the client's."""
    query = (
        sa.select(sa.func.count())
        .select_from(image_stages)
        .join(clients, clients.c.id == image_stages.c.client_id)
        .where(image_stages.c.client_id == client_id, _IN_FORMER_LANE)
    )
    async with db.read(SYSTEM) as connection:
        return int(await connection.scalar(query) or 0)


async def find_left_behind(db: Database, *, limit: int, client_id: int | None = None) -> list[OpenStage]:
    """Return unclaimed open stages in a lane that their client has left, for one client or for all.

    A claimed stage ends in its old lane, or is returned by a later call when its attempt fails.
    """
    conditions = [] if client_id is None else [image_stages.c.client_id == client_id]
    query = (
        sa.select(image_stages)
        .join(clients, clients.c.id == image_stages.c.client_id)
        .where(
            *conditions,
            _IN_FORMER_LANE,
            sa.or_(image_stages.c.lease_until.is_(None), image_stages.c.lease_until < utc_now()),
        )
        .order_by(image_stages.c.image_id, image_stages.c.stage)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        return [open_stage(row) for row in await connection.execute(query)]
