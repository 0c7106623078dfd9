"""Reprocess jobs queue each selected image once, at their rate, and count how the runs ended."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from imago.core.clients.audit import IMAGO
from imago.core.clients.changes import ClientPatch, patch_client
from imago.core.clients.model import Client
from imago.core.errors import Conflict, NotFound, NothingSelected, Unprocessable
from imago.core.images.changes import delete_image, reprocess
from imago.core.jobs.stages import ImageStatus, Stage
from imago.core.reprocessing import selecting
from imago.core.reprocessing.jobs import JobPatch, NewJob, count_selected, create_job, delete_job, patch_job
from imago.core.reprocessing.model import Counts, Phase, Selection
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.db.tables import image_stages, images, reprocess_runs
from tests.support.reprocessing import Runner, end_run, old_image, reload, runs, start_job
from tests.support.samples import make_client, make_image


@pytest.fixture
async def client(db: Database) -> Client:
    return await make_client(db, images=1000)


async def test_a_job_runs_only_its_stages_again_and_completes_when_they_have_ended(
    db: Database, client: Client
) -> None:
    done, failing = await old_image(db, client), await old_image(db, client)
    runner, job = Runner(db), await start_job(db, Stage.OCR)
    assert (job.phase, job.counts) == (Phase.RUNNING, Counts(matched=2))
    assert await runner.run() == 2
    assert await runs(db, done) == {"thumbnail": 1, "exif": 1, "ocr": 2, "vision": 1}
    assert [row.work.run for row in runner.published.rows if row.work] == [2, 2]
    async with db.read() as connection:
        query = sa.select(image_stages.c.priority).where(image_stages.c.run == 2)
        assert set(await connection.scalars(query)) == {"background"}
    await runner.run()
    assert (await reload(db, job)).phase is Phase.RUNNING, "the runs have not ended"
    await end_run(db, client, done.uuid, Stage.OCR)
    await end_run(db, client, failing.uuid, Stage.OCR, fails=True)
    await runner.run()
    job = await reload(db, job)
    assert (job.phase, job.counts) == (Phase.COMPLETED, Counts(matched=2, queued=2, done=1, failed=1))
    async with db.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(reprocess_runs)) == 0


async def test_running_deleted_and_renewed_images_are_skipped(db: Database, client: Client) -> None:
    waiting = await make_image(db, client)
    deleted, renewed, again = [await old_image(db, client) for _ in range(3)]
    runner, job = Runner(db), await start_job(db, Stage.OCR)
    assert job.counts.matched == 3, "the waiting one does not match"
    await delete_image(db, client, deleted.id, headers={})
    await reprocess(db, client, renewed.id, [Stage.OCR], stages_off=frozenset(), headers={})
    await end_run(db, client, renewed.uuid, Stage.OCR)
    await runner.run()
    await end_run(db, client, again.uuid, Stage.OCR)
    await runner.run()
    assert (await runs(db, waiting))["ocr"] == 1
    assert (await runs(db, renewed))["ocr"] == 2
    job = await reload(db, job)
    assert (job.phase, job.counts) == (Phase.COMPLETED, Counts(matched=3, queued=1, done=1, skipped=2))


async def test_images_deleted_or_reprocessed_after_they_were_queued_are_cancelled(db: Database, client: Client) -> None:
    deleted, renewed = await old_image(db, client), await old_image(db, client)
    runner, job = Runner(db), await start_job(db, Stage.OCR)
    await runner.run()
    await delete_image(db, client, deleted.id, headers={})
    await reprocess(db, client, renewed.id, [Stage.OCR], stages_off=frozenset(), headers={})
    await runner.run()
    job = await reload(db, job)
    assert (job.phase, job.counts) == (Phase.COMPLETED, Counts(matched=2, queued=2, cancelled=2))


async def test_overlapping_jobs_queue_each_image_once(db: Database, client: Client) -> None:
    stored = [await old_image(db, client) for _ in range(3)]
    runner = Runner(db)
    await start_job(db, Stage.OCR)
    await runner.run()
    for image in stored[:2]:
        await end_run(db, client, image.uuid, Stage.OCR)
    # Some runs of the first job have ended before the second one exists.
    late = await old_image(db, client)
    second = await start_job(db, Stage.OCR, Stage.VISION)
    assert second.counts.matched == 4
    for _ in range(3):
        await runner.run()
    for image in stored:
        assert (await runs(db, image)) == {"thumbnail": 1, "exif": 1, "ocr": 2, "vision": 2}
    assert (await runs(db, late))["ocr"] == 2, "the first job did not select it"
    with pytest.raises(NothingSelected, match="newer than"):
        await start_job(db, Stage.OCR)


async def test_concurrent_runners_queue_each_image_once(db: Database, client: Client) -> None:
    stored = [await old_image(db, client) for _ in range(6)]
    jobs = [await start_job(db, Stage.OCR), await start_job(db, Stage.OCR)]
    await asyncio.gather(*(Runner(db).run() for _ in range(3)))
    await Runner(db).run()
    assert Counter([(await runs(db, image))["ocr"] for image in stored]) == {2: 6}
    assert sum([(await reload(db, job)).counts.queued for job in jobs]) == 6


async def test_a_job_follows_its_rate(db: Database, client: Client) -> None:
    for _ in range(3):
        await old_image(db, client)
    runner, job = Runner(db), await start_job(db, Stage.OCR, rate=1)
    assert [await runner.run(at_rate=True) for _ in range(3)] == [1, 0, 0], "the next one is due in a minute"
    await patch_job(db, job.id, JobPatch(images_per_minute=6000), by=IMAGO)
    assert await runner.run(at_rate=True) >= 1


async def test_a_job_waits_while_many_of_its_images_are_unfinished(
    db: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imago.core.reprocessing.pace.MIN_UNFINISHED", 2)
    stored = [await old_image(db, client) for _ in range(4)]
    runner = Runner(db)
    await start_job(db, Stage.OCR, rate=1)
    for _ in range(4):
        await runner.run()
    assert sum([(await runs(db, image))["ocr"] == 2 for image in stored]) == 2
    await end_run(db, client, stored[0].uuid, Stage.OCR)
    await runner.run()
    assert (await runs(db, stored[2]))["ocr"] == 2
    # A parked run, as of a client without AI calls, does not hold up the others.
    async with db.write() as connection:
        await connection.execute(
            sa.update(image_stages)
            .where(image_stages.c.image_id == stored[1].id, image_stages.c.stage == "ocr")
            .values(status="retrying", due_at=utc_now() + timedelta(days=3))
        )
    await runner.run()
    assert (await runs(db, stored[3]))["ocr"] == 2


async def test_a_suspended_job_queues_nothing_and_resumes(db: Database, client: Client) -> None:
    stored = await old_image(db, client)
    runner, job = Runner(db), await start_job(db, Stage.OCR)
    assert (await patch_job(db, job.uuid, JobPatch(suspended=True), by=IMAGO)).phase is Phase.SUSPENDED
    assert await runner.run() == 0
    await patch_job(db, job.uuid, JobPatch(suspended=False), by=IMAGO)
    assert await runner.run() == 1
    await end_run(db, client, stored.uuid, Stage.OCR)
    await runner.run()
    with pytest.raises(Conflict, match="completed"):
        await patch_job(db, job.uuid, JobPatch(suspended=True), by=IMAGO)


async def test_a_deleted_job_queues_nothing_more_and_its_runs_continue(db: Database, client: Client) -> None:
    first, second = await old_image(db, client), await old_image(db, client)
    runner, job = Runner(db), await start_job(db, Stage.OCR, rate=1)
    await runner.run()
    await delete_job(db, job.uuid, by=IMAGO)
    with pytest.raises(NotFound):
        await delete_job(db, job.uuid, by=IMAGO)
    await runner.run()
    assert [(await runs(db, image))["ocr"] for image in (first, second)] == [2, 1]
    await end_run(db, client, first.uuid, Stage.OCR)


async def test_engine_not_and_model_not_restrict_their_stage(db: Database, client: Client) -> None:
    old, mixed, new = [await old_image(db, client) for _ in range(3)]
    for image, engine, model in ((old, "old", "old"), (mixed, "new", "old"), (new, "new", "new")):
        await reprocess(db, client, image.id, [Stage.OCR, Stage.VISION], stages_off=frozenset(), headers={})
        await end_run(db, client, image.uuid, Stage.OCR, by=engine)
        await end_run(db, client, image.uuid, Stage.VISION, by=model)
    without = await old_image(db, client)
    job = await start_job(db, Stage.OCR, Stage.VISION, engine_not="new", model_not="new")
    assert job.counts.matched == 3
    await Runner(db).run()
    found = [await runs(db, image) for image in (old, mixed, new, without)]
    assert [(stages["ocr"], stages["vision"]) for stages in found] == [(3, 3), (2, 3), (2, 2), (2, 2)]


async def test_each_filter_selects_its_images(db: Database, client: Client) -> None:
    other = await make_client(db, "other")
    mine, theirs = await old_image(db, client), await old_image(db, other)
    async with db.write() as connection:
        update = sa.update(images)
        long_ago = utc_now() - timedelta(days=30)
        await connection.execute(
            update.where(images.c.id == mine.id).values(created_at=long_ago, taken_at=long_ago.replace(tzinfo=None))
        )
        await connection.execute(update.where(images.c.id == theirs.id).values(status="failed"))
    await reprocess(db, other, theirs.id, [Stage.VISION], stages_off=frozenset(), headers={})
    await end_run(db, other, theirs.uuid, Stage.VISION)
    async with db.write() as connection:
        await connection.execute(sa.update(images).where(images.c.id == theirs.id).values(status="failed"))
    week = utc_now() - timedelta(days=7)

    async def count(**selected: object) -> int:
        return await count_selected(db, Selection((Stage.OCR,), **selected))  # type: ignore[arg-type]

    assert await count() == 2
    assert await count(clients=(client.uuid,)) == 1
    assert await count(clients=(client.uuid, other.uuid)) == 2
    assert await count(created_to=week) == 1
    assert await count(created_from=week) == 1
    assert await count(taken_to=week.replace(tzinfo=None)) == 1
    assert await count(taken_from=week.replace(tzinfo=None)) == 0
    assert await count(status=ImageStatus.FAILED) == 1
    assert await count(status=ImageStatus.PARTIAL) == 0
    assert await count(tag="Beach") == 1
    assert await count(tag="mountain") == 0


async def test_stages_outside_of_the_pipeline_and_deactivated_clients_do_not_count(
    db: Database, client: Client
) -> None:
    without_ocr, inactive = await make_client(db, "without"), await make_client(db, "inactive")
    for each in (client, without_ocr, inactive):
        await old_image(db, each)
    await patch_client(db, without_ocr.id, ClientPatch(pipeline={"stages": ["exif"]}), by=IMAGO)
    await patch_client(db, inactive.id, ClientPatch(active=False), by=IMAGO)
    assert await count_selected(db, Selection((Stage.OCR,))) == 1
    assert await count_selected(db, Selection((Stage.OCR, Stage.EXIF))) == 2
    assert await count_selected(db, Selection((Stage.THUMBNAIL,), clients=(without_ocr.uuid,))) == 1
    with pytest.raises(NothingSelected):
        await start_job(db, Stage.OCR, clients=(inactive.uuid,))


async def test_a_stage_that_the_server_disabled_since_is_not_run(db: Database, client: Client) -> None:
    stored = await old_image(db, client)
    job = await start_job(db, Stage.OCR)
    runner = Runner(db, stages_off=("ocr",))
    await runner.run()
    await runner.run()
    assert (await runs(db, stored))["ocr"] == 1
    job = await reload(db, job)
    assert (job.phase, job.counts.skipped) == (Phase.COMPLETED, 1)


async def test_images_in_many_ranges_of_ids_are_counted_and_found(
    db: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [await old_image(db, client) for _ in range(5)]
    monkeypatch.setattr(selecting, "WINDOW", 2)
    monkeypatch.setattr("imago.maintenance.reprocess_runner.WINDOWS", 1)
    job = await start_job(db, Stage.OCR)
    assert job.counts.matched == 5
    runner = Runner(db)
    for _ in range(5):
        await runner.run()
    assert [(await runs(db, image))["ocr"] for image in stored] == [2] * 5
    assert (await reload(db, job)).counts.queued == 5


async def test_images_uploaded_after_the_job_was_created_are_not_selected(db: Database, client: Client) -> None:
    await old_image(db, client)
    await start_job(db, Stage.OCR)
    later = await old_image(db, client)
    runner = Runner(db)
    await runner.run()
    await runner.run()
    assert (await runs(db, later))["ocr"] == 1


async def test_a_repeated_creation_with_a_uuid_returns_the_same_job(db: Database, client: Client) -> None:
    await old_image(db, client)
    new = NewJob(Selection((Stage.OCR,)), uuid=client.uuid)
    jobs = await asyncio.gather(*(create_job(db, new, by=IMAGO) for _ in range(3)))
    assert len({job.id for job in jobs}) == 1
    await Runner(db).run()
    assert (await create_job(db, new, by=IMAGO)).id == jobs[0].id, "also when nothing is left to select"
    with pytest.raises(Conflict, match="another selection"):
        await create_job(db, NewJob(Selection((Stage.EXIF,)), uuid=client.uuid), by=IMAGO)


async def test_an_unknown_client_is_refused(db: Database, client: Client) -> None:
    image = await old_image(db, client)
    with pytest.raises(Unprocessable, match="No such client"):
        await start_job(db, Stage.OCR, clients=(client.uuid, image.uuid))
