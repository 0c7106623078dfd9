"""The auditor: compares storage with the database and tells where they differ; it changes neither.

After a database was restored from an older backup, or in a bucket that others use too, there are objects that the
database doesn't know; after storage was lost there are images without objects. Which of the two is right is for a
person to decide.
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

# How many keys a report names; the counts are of all.
SAMPLES = 20

_BATCH = 200


@dataclass
class Findings:
    """What was found: how many of each kind, and the first few."""

    objects: int = 0
    unknown: int = 0
    unknown_bytes: int = 0
    missing: int = 0
    unknown_samples: list[str] = field(default_factory=list)
    missing_samples: list[str] = field(default_factory=list)


class StorageAuditor:
    """Walks through all objects and all images side by side, both in the order of keys."""

    def __init__(self, settings: Settings, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store
        self._prefix = settings.s3_prefix.strip("/") + "/" if settings.s3_prefix.strip("/") else ""
        # An object may be there before its row is committed, for as long as an upload lasts.
        self._young = timedelta(seconds=settings.intent_ttl)
        self._shown = Snapshot(metrics.UNKNOWN_OBJECTS, metrics.MISSING_OBJECTS)

    def clear(self) -> None:
        """Take back what the metrics tell: another process compares now."""
        self._shown.clear()

    async def run_once(self) -> int:
        """Compare, log and meter; return how many differences there are."""
        findings = await self.compare()
        self._shown.replace(metrics.UNKNOWN_OBJECTS, {(): findings.unknown})
        self._shown.replace(metrics.MISSING_OBJECTS, {(): findings.missing})
        if findings.unknown:
            log.warning(
                "storage holds objects that the database doesn't know; nothing deletes them",
                count=findings.unknown,
                bytes=findings.unknown_bytes,
                first=findings.unknown_samples,
            )
        if findings.missing:
            log.error("images have lost objects", count=findings.missing, first=findings.missing_samples)
        return findings.unknown + findings.missing

    async def compare(self) -> Findings:
        """Return the differences; raise DatabaseUnavailable or StorageUnavailable."""
        findings = Findings()
        strangers: list[ObjectInfo] = []
        stored, expected = self._stored(findings), expected_objects(self._db)
        there, needed = await anext(stored, None), await anext(expected, None)
        while there is not None or needed is not None:
            if needed is None or (there is not None and there.key < needed.key):
                if there is not None:
                    strangers.append(there)
                    there = await anext(stored, None)
            elif there is None or needed.key < there.key:
                await self._check_missing(findings, needed)
                needed = await anext(expected, None)
            else:
                there, needed = await anext(stored, None), await anext(expected, None)
            if len(strangers) >= _BATCH:
                await self._check_unknown(findings, strangers)
                strangers = []
        await self._check_unknown(findings, strangers)
        return findings

    async def _stored(self, findings: Findings) -> AsyncIterator[ObjectInfo]:
        async for info in self._store.list(prefix=self._prefix):
            findings.objects += 1
            yield info

    async def _check_unknown(self, findings: Findings, strangers: list[ObjectInfo]) -> None:
        """Look at objects again that no image had at its turn: while we walked, things went on."""
        old = [info for info in strangers if utc_now() - info.modified > self._young]
        known = await known_objects(self._db, [info.key for info in old])
        for info in old:
            if info.key not in known:
                findings.unknown += 1
                findings.unknown_bytes += info.size
                if len(findings.unknown_samples) < SAMPLES:
                    findings.unknown_samples.append(info.key)

    async def _check_missing(self, findings: Findings, needed: ExpectedObject) -> None:
        """Look again for an object that was not listed where it should have been."""
        if await self._store.size(needed.key) is None and await still_expected(self._db, needed):
            findings.missing += 1
            if len(findings.missing_samples) < SAMPLES:
                findings.missing_samples.append(needed.key)
