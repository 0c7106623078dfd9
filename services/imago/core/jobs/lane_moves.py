"""Work that waits in a lane its client has left: found, counted, and published anew on the lane the client has now."""

import sqlalchemy as sa

from imago.core.jobs.stages import OPEN_STATUSES
from imago.core.jobs.stream_repair import OpenStage, open_stage
from imago.core.outbox.model import OutboxKind
from imago.core.times import utc_now
from imago.db.engine import SYSTEM, Database
from imago.db.tables import clients, image_stages, outbox

_OPEN = image_stages.c.status.in_([str(status) for status in OPEN_STATUSES])

# What stands in the outbox has no message yet and takes the present lane when it gets one.
_QUEUED = sa.exists().where(
    outbox.c.image_id == image_stages.c.image_id,
    outbox.c.stage == image_stages.c.stage,
    outbox.c.kind == OutboxKind.WORK,
)


async def count_left_behind(db: Database, client_id: int) -> int:
    """Return how many of a client's open stages have their message in another lane than the client's."""
    query = (
        sa.select(sa.func.count())
        .select_from(image_stages)
        .join(clients, clients.c.id == image_stages.c.client_id)
        .where(image_stages.c.client_id == client_id, image_stages.c.lane != clients.c.lane, _OPEN, ~_QUEUED)
    )
    async with db.read(SYSTEM) as connection:
        return int(await connection.scalar(query) or 0)


async def find_left_behind(db: Database, *, limit: int, client_id: int | None = None) -> list[OpenStage]:
    """Return open stages in a lane that their client has left and that no worker holds, of one client or of all.

    What a worker holds ends where it is; a try that fails is found the next time.
    """
    conditions = [] if client_id is None else [image_stages.c.client_id == client_id]
    query = (
        sa.select(image_stages)
        .join(clients, clients.c.id == image_stages.c.client_id)
        .where(
            *conditions,
            _OPEN,
            image_stages.c.lane != clients.c.lane,
            sa.or_(image_stages.c.lease_until.is_(None), image_stages.c.lease_until < utc_now()),
            ~_QUEUED,
        )
        .order_by(image_stages.c.image_id, image_stages.c.stage)
        .limit(limit)
    )
    async with db.read(SYSTEM) as connection:
        return [open_stage(row) for row in await connection.execute(query)]
