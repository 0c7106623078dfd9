"""The sweeper: deletes the objects of uploads that came to nothing and of images that are gone, and nothing else.

Objects that the database doesn't know (after a restored backup, in a shared bucket) are never deleted.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from imago.core.clients.rate_limits import expire_rates
from imago.core.jobs import stream_repair as repair
from imago.core.jobs.stream_repair import Grave
from imago.db.engine import Database
from imago.objects.store import ObjectStore, StorageUnavailable
from imago.telemetry import metrics

log = structlog.get_logger(__name__)

BATCH = 200

# An object that can't be deleted (held by a lock of the store's, say) must not keep the others from being deleted.
POSTPONE = timedelta(minutes=10)

# So many failures in a row mean that it is the store; each of them may have taken its whole deadline.
STRIKES = 3

# A client that sent nothing for so long has a full burst anyway.
RATE_MEMORY = timedelta(days=1)


class ObjectCleaner:
    """Clears expired intents, graves and Idempotency-Keys."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    async def run_once(self) -> int:
        """Sweep everything that is due; return how many objects were deleted."""
        intents = await repair.expire_intents(self._db)
        metrics.CLEANED_UP.labels("intents").inc(intents)
        metrics.CLEANED_UP.labels("idempotency-keys").inc(await repair.expire_idempotency_keys(self._db))
        metrics.CLEANED_UP.labels("rates").inc(await expire_rates(self._db, idle=RATE_MEMORY))
        deleted = 0
        while graves := await repair.due_graves(self._db, limit=BATCH):
            done, failed, away = await self._delete(graves)
            await repair.close_graves(self._db, done)
            await repair.postpone_graves(self._db, failed, POSTPONE)
            deleted += len(done)
            metrics.CLEANED_UP.labels("objects").inc(len(done))
            metrics.OBJECT_DELETION_FAILURES.inc(len(failed))
            if away:
                break
        return deleted

    async def _delete(self, graves: Sequence[Grave]) -> tuple[list[Grave], list[Grave], bool]:
        """Delete objects; return those that are gone, those that are not, and whether the store seems to be away."""
        done: list[Grave] = []
        failed: list[Grave] = []
        strikes = 0
        for grave in graves:
            try:
                await self._store.delete(grave.object_key)
            except StorageUnavailable as error:
                log.warning("an object can't be deleted now", key=grave.object_key, error=str(error))
            except Exception:
                log.exception("an object can't be deleted", key=grave.object_key)
            else:
                done.append(grave)
                strikes = 0
                continue
            failed.append(grave)
            strikes += 1
            if strikes == STRIKES:
                break
        return done, failed, strikes == STRIKES
