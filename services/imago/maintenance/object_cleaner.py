"""Deletes the objects of abandoned uploads and deleted images, and expired rows.

It deletes only objects with a tombstone. Objects that are not in the database (after a restored backup, or in a shared
bucket) are never deleted.
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

# An object that can't be deleted (because of an object lock, for example) must not block the others.
RETRY_DELAY = timedelta(minutes=10)

# After this many failures in a row the store counts as unavailable, because each failure can take a whole timeout.
MAX_FAILURES_IN_A_ROW = 3

# After this time without a request, a client has its full burst anyway.
RATE_LIFETIME = timedelta(days=1)


class ObjectCleaner:
    """Deletes expired intents, Idempotency-Keys and rates, and the objects of tombstones."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    async def run_once(self) -> int:
        """Delete everything that is due; return the number of objects deleted."""
        await self._expire_rows()
        total = 0
        while tombstones := await due_tombstones(self._db, limit=BATCH):
            deleted, failed, unavailable = await self._delete(tombstones)
            await mark_objects_deleted(self._db, deleted)
            await postpone_tombstones(self._db, failed, RETRY_DELAY)
            total += len(deleted)
            metrics.CLEANED_UP.labels("objects").inc(len(deleted))
            metrics.OBJECT_DELETION_FAILURES.inc(len(failed))
            if unavailable:
                break
        return total

    async def _expire_rows(self) -> None:
        metrics.CLEANED_UP.labels("intents").inc(await expire_intents(self._db))
        metrics.CLEANED_UP.labels("idempotency-keys").inc(await expire_idempotency_keys(self._db))
        metrics.CLEANED_UP.labels("rates").inc(await expire_rates(self._db, idle=RATE_LIFETIME))

    async def _delete(self, tombstones: Sequence[Tombstone]) -> tuple[list[Tombstone], list[Tombstone], bool]:
        """Delete objects; return those deleted, those that failed, and whether the store seems to be unavailable."""
        deleted: list[Tombstone] = []
        failed: list[Tombstone] = []
        failures_in_a_row = 0
        for tombstone in tombstones:
            if await self._try_to_delete(tombstone.object_key):
                deleted.append(tombstone)
                failures_in_a_row = 0
                continue
            failed.append(tombstone)
            failures_in_a_row += 1
            if failures_in_a_row == MAX_FAILURES_IN_A_ROW:
                return deleted, failed, True
        return deleted, failed, False

    async def _try_to_delete(self, key: str) -> bool:
        try:
            await self._store.delete(key)
        except StorageUnavailable as error:
            log.warning("object.delete-failed", key=key, error=str(error))
            return False
        except Exception:
            log.exception("object.delete-failed", key=key)
            return False
        return True
