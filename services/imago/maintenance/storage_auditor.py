"""Compares the object store with the database and reports differences, without changing either.

Unknown objects appear after a restore of an older database backup, or in a shared bucket; missing objects appear after
a loss in the store. An operator has to decide which side is right.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from imago.core.images.expected_objects import ExpectedObject, expected_objects, known_objects, still_expected
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.objects.store import ObjectInfo, ObjectStore
from imago.settings import Settings
from imago.telemetry import metrics
from imago.telemetry.snapshot import Snapshot

log = structlog.get_logger(__name__)

# The maximum number of keys in a report; the counts include all.
SAMPLES = 20

_BATCH = 200


@dataclass
class Findings:
    """The number of unknown and missing objects, with the first keys of each."""

    objects: int = 0
    unknown: int = 0
    unknown_bytes: int = 0
    missing: int = 0
    unknown_samples: list[str] = field(default_factory=list)
    missing_samples: list[str] = field(default_factory=list)


class StorageAuditor:
    """Walks all stored objects and all images in parallel, both in the order of keys."""

    def __init__(self, settings: Settings, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store
        self._prefix = settings.s3_prefix.strip("/") + "/" if settings.s3_prefix.strip("/") else ""
        # During an upload, an object can exist before its row is committed.
        self._upload_time = timedelta(seconds=settings.intent_ttl)
        self._metrics = Snapshot(metrics.UNKNOWN_OBJECTS, metrics.MISSING_OBJECTS)

    def clear(self) -> None:
        """Remove the metrics: another process runs the audit now."""
        self._metrics.clear()

    async def run_once(self) -> int:
        """Compare, log the differences and set the metrics; return the number of differences."""
        findings = await self.compare()
        self._metrics.replace(metrics.UNKNOWN_OBJECTS, {(): findings.unknown})
        self._metrics.replace(metrics.MISSING_OBJECTS, {(): findings.missing})
        if findings.unknown:
            log.warning(
                "storage.objects-unknown",
                count=findings.unknown,
                bytes=findings.unknown_bytes,
                first=findings.unknown_samples,
                message="these objects are not in the database; Imago does not delete them",
            )
        if findings.missing:
            log.error("storage.objects-missing", count=findings.missing, first=findings.missing_samples)
        return findings.unknown + findings.missing

    async def compare(self) -> Findings:
        """Return the differences; raise DatabaseUnavailable or StorageUnavailable."""
        findings = Findings()
        unmatched: list[ObjectInfo] = []
        stored, expected = self._stored(findings), expected_objects(self._db)
        found, needed = await anext(stored, None), await anext(expected, None)
        while found is not None or needed is not None:
            if needed is None or (found is not None and found.key < needed.key):
                if found is not None:
                    unmatched.append(found)
                    found = await anext(stored, None)
            elif found is None or needed.key < found.key:
                await self._check_missing(findings, needed)
                needed = await anext(expected, None)
            else:
                found, needed = await anext(stored, None), await anext(expected, None)
            if len(unmatched) >= _BATCH:
                await self._check_unknown(findings, unmatched)
                unmatched = []
        await self._check_unknown(findings, unmatched)
        return findings

    async def _stored(self, findings: Findings) -> AsyncIterator[ObjectInfo]:
        async for info in self._store.list(prefix=self._prefix):
            findings.objects += 1
            yield info

    async def _check_unknown(self, findings: Findings, unmatched: list[ObjectInfo]) -> None:
        """Check again objects that no image had when they were compared: images changed during the walk."""
        old = [info for info in unmatched if utc_now() - info.modified > self._upload_time]
        known = await known_objects(self._db, [info.key for info in old])
        for info in old:
            if info.key not in known:
                findings.unknown += 1
                findings.unknown_bytes += info.size
                if len(findings.unknown_samples) < SAMPLES:
                    findings.unknown_samples.append(info.key)

    async def _check_missing(self, findings: Findings, needed: ExpectedObject) -> None:
        """Check again an object that was not listed: images changed during the walk."""
        if await self._store.size(needed.key) is None and await still_expected(self._db, needed):
            findings.missing += 1
            if len(findings.missing_samples) < SAMPLES:
                findings.missing_samples.append(needed.key)
