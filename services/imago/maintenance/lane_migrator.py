"""Republishes the waiting work of clients that changed their lane, so that the new lane processes it.

The old messages stay in the old stream. A worker that receives one finds its stage done or claimed, and drops it.
"""

from imago.core.jobs.lane_moves import find_left_behind
from imago.core.jobs.stream_repair import OpenStage, republish
from imago.core.outbox.model import OutboxPublisher
from imago.db.engine import Database
from imago.telemetry import metrics

BATCH = 200


class LaneMigrator:
    """Republishes stages whose lane is not the lane of their client."""

    def __init__(self, db: Database, outbox_publisher: OutboxPublisher) -> None:
        self._db = db
        self._outbox_publisher = outbox_publisher

    async def run_once(self) -> int:
        """Move all stages that can be moved now; return their number."""
        total = 0
        while stages := await find_left_behind(self._db, limit=BATCH):
            moved = await self._move(stages)
            metrics.RECONCILED.labels("lane-changed").inc(moved)
            total += moved
            if moved == 0 or len(stages) < BATCH:
                break
        return total

    async def _move(self, stages: list[OpenStage]) -> int:
        moved = 0
        for stage in stages:
            row = await republish(self._db, stage)
            if row is not None:
                self._outbox_publisher.publish_soon((row,))
                moved += 1
        return moved
