"""Reprocess jobs in tests: stored images whose stages have ended, and a runner that runs when the test says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from imago.core.clients.audit import IMAGO
from imago.core.clients.model import Client
from imago.core.images.results import OcrReading, OcrResult, StageResult, VisionResult
from imago.core.jobs import completion
from imago.core.jobs.claims import Claim
from imago.core.jobs.failures import PermanentFailure
from imago.core.jobs.stages import Stage
from imago.core.outbox.model import OutboxRow
from imago.core.outbox.work_message import WorkMessage
from imago.core.reprocessing.jobs import NewJob, create_job, get_job
from imago.core.reprocessing.model import ReprocessJob, Selection
from imago.core.times import utc_now
from imago.core.uploads.model import AcceptedImage
from imago.db.engine import Database
from imago.db.tables import image_stages, reprocess_jobs
from imago.maintenance.reprocess_runner import ReprocessRunner
from imago.settings import Settings
from tests.support.samples import make_image
from tests.support.work import claim_stage, complete_stage


@dataclass
class Rows:
    """An outbox publisher that only records its rows."""

    rows: list[OutboxRow] = field(default_factory=list)

    def publish_soon(self, rows: Sequence[OutboxRow]) -> None:
        self.rows.extend(rows)


@dataclass
class Runner:
    """The runner of all jobs, which a test runs; it ignores the jobs' rates unless told otherwise."""

    db: Database
    published: Rows = field(default_factory=Rows)
    stages_off: tuple[str, ...] = ()

    async def run(self, *, at_rate: bool = False) -> int:
        if not at_rate:
            await self._make_due()
        runner = ReprocessRunner(Settings(disabled_stages=self.stages_off), self.db, self.published)
        return await runner.run_once()

    async def _make_due(self) -> None:
        async with self.db.write() as connection:
            long_ago = utc_now() - timedelta(hours=1)
            await connection.execute(sa.update(reprocess_jobs).values(next_at=long_ago))


async def start_job(db: Database, *stages: Stage, rate: int = 6000, **selected: Any) -> ReprocessJob:
    """Create a job over stages."""
    return await create_job(db, NewJob(Selection(stages, **selected), images_per_minute=rate), by=IMAGO)


async def reload(db: Database, job: ReprocessJob) -> ReprocessJob:
    """Return a job as it is now."""
    return await get_job(db, job.id)


async def old_image(db: Database, client: Client, **options: Any) -> AcceptedImage:
    """Store an image whose stages ended an hour ago."""
    image = await make_image(db, client, **options)
    async with db.write() as connection:
        await connection.execute(
            sa.update(image_stages)
            .where(image_stages.c.image_id == image.id)
            .values(status="done", done_at=utc_now() - timedelta(hours=1))
        )
    return image


async def runs(db: Database, image: AcceptedImage) -> dict[str, int]:
    """Return the run of each stage of an image."""
    query = sa.select(image_stages.c.stage, image_stages.c.run).where(image_stages.c.image_id == image.id)
    async with db.read() as connection:
        return {row.stage: row.run for row in await connection.execute(query)}


async def end_run(
    db: Database, client: Client, image: UUID, stage: Stage, *, run: int = 2, fails: bool = False, by: str = "test"
) -> None:
    """Claim a run as a worker does, and end it."""
    message = WorkMessage(image, client.uuid, stage, run, 1)
    claim = await claim_stage(db, message, lease=timedelta(seconds=30), max_tries=3)
    assert isinstance(claim, Claim), claim
    if fails:
        failure, second = PermanentFailure("bad-image", "It is broken."), timedelta(seconds=1)
        await completion.fail_stage(db, claim, failure, max_tries=3, base=second, cap=second, headers={})
    else:
        await complete_stage(db, claim, result_of(stage, by))


def result_of(stage: Stage, by: str) -> StageResult:
    """Return a result of the ocr or the vision stage that names its engine or model."""
    if stage is Stage.VISION:
        return VisionResult("A beach.", ("beach",), 0.9, by)
    return OcrResult(OcrReading(True, "words", "en", 0.9, by))
