"""The sweeper: deletes the objects of uploads that came to nothing and of images that are gone, and nothing else.

Objects that the database doesn't know (after a restored backup, in a shared bucket) are never deleted.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from imago.core.clients.rate_limits import expire_rates
from imago.core.images.tombstones import Tombstone, due_tombstones, mark_objects_deleted, postpone_tombstones
from imago.core.uploads.expiry import expire_idempotency_keys, expire_intents
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
    """Clears expired intents, tombstones and Idempotency-Keys."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    async def run_once(self) -> int:
        """Sweep everything that is due; return how many objects were deleted."""
        intents = await expire_intents(self._db)
        metrics.CLEANED_UP.labels("intents").inc(intents)
        metrics.CLEANED_UP.labels("idempotency-keys").inc(await expire_idempotency_keys(self._db))
        metrics.CLEANED_UP.labels("rates").inc(await expire_rates(self._db, idle=RATE_MEMORY))
        deleted = 0
        while tombstones := await due_tombstones(self._db, limit=BATCH):
            done, failed, away = await self._delete(tombstones)
            await mark_objects_deleted(self._db, done)
            await postpone_tombstones(self._db, failed, POSTPONE)
            deleted += len(done)
            metrics.CLEANED_UP.labels("objects").inc(len(done))
            metrics.OBJECT_DELETION_FAILURES.inc(len(failed))
            if away:
                break
        return deleted

    async def _delete(self, tombstones: Sequence[Tombstone]) -> tuple[list[Tombstone], list[Tombstone], bool]:
        """Delete objects; return those that are gone, those that are not, and whether the store seems to be away."""
        done: list[Tombstone] = []
        failed: list[Tombstone] = []
        strikes = 0
        for tombstone in tombstones:
            try:
                await self._store.delete(tombstone.object_key)
            except StorageUnavailable as error:
                log.warning("an object can't be deleted now", key=tombstone.object_key, error=str(error))
            except Exception:
                log.exception("an object can't be deleted", key=tombstone.object_key)
            else:
                done.append(tombstone)
                strikes = 0
                continue
            failed.append(tombstone)
            strikes += 1
            if strikes == STRIKES:
                break
        return done, failed, strikes == STRIKES
