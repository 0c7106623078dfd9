"""The sweeper: deletes the objects of uploads that came to nothing and of images that are gone, and nothing else.

Objects that the database doesn't know (after a restored backup, in a shared bucket) are never deleted.
"""

from datetime import timedelta

import structlog

from imago.database import repair
from imago.database.engine import Database
from imago.database.rates import expire_rates
from imago.storage.store import ObjectStore, StorageUnavailable
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

BATCH = 200

# A client that sent nothing for so long has a full burst anyway.
RATE_MEMORY = timedelta(days=1)


class Sweeper:
    """Clears expired intents, graves and Idempotency-Keys."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    async def run_once(self) -> int:
        """Sweep everything that is due; return how many objects were deleted."""
        intents = await repair.expire_intents(self._db)
        metrics.SWEPT.labels("intents").inc(intents)
        metrics.SWEPT.labels("idempotency-keys").inc(await repair.expire_idempotency_keys(self._db))
        metrics.SWEPT.labels("rates").inc(await expire_rates(self._db, idle=RATE_MEMORY))
        deleted = 0
        while graves := await repair.due_graves(self._db, limit=BATCH):
            done = []
            for grave in graves:
                try:
                    await self._store.delete(grave.object_key)
                except StorageUnavailable as error:
                    log.warning("an object can't be deleted now", error=str(error))
                    break
                done.append(grave)
            await repair.close_graves(self._db, done)
            deleted += len(done)
            metrics.SWEPT.labels("objects").inc(len(done))
            if len(done) < len(graves):
                break
        return deleted
