"""Moves the work of clients that changed their lane: what still waits in the old one is published on the new one.

Its old messages stay where they are; whoever takes one finds the work done or the claim taken, and drops it.
"""

from imago.core.jobs.lane_moves import find_left_behind
from imago.core.jobs.stream_repair import republish
from imago.core.outbox.model import OutboxPublisher
from imago.db.engine import Database
from imago.telemetry import metrics

BATCH = 200


class LaneMigrator:
    """Publishes anew what waits in lanes that were left."""

    def __init__(self, db: Database, outbox_publisher: OutboxPublisher) -> None:
        self._db = db
        self._outbox_publisher = outbox_publisher

    async def run_once(self) -> int:
        """Move everything that can be moved now; return how many stages."""
        count = 0
        while found := await find_left_behind(self._db, limit=BATCH):
            moved = 0
            for stage in found:
                row = await republish(self._db, stage)
                if row is not None:
                    self._outbox_publisher.publish_soon((row,))
                    moved += 1
            metrics.RECONCILED.labels("lane-changed").inc(moved)
            count += moved
            if moved == 0 or len(found) < BATCH:
                break
        return count
