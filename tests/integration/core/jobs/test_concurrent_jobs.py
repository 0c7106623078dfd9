"""Claims and results of several stages in one transaction have the same effects as in several transactions."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.clients.queries import get_usage
from imago.core.images.changes import delete_image, reprocess
from imago.core.images.queries import get_stages
from imago.core.images.results import (
    Camera,
    ExifResult,
    OcrReading,
    OcrResult,
    StageResult,
    ThumbnailResult,
    VisionResult,
)
from imago.core.images.tombstones import due_tombstones
from imago.core.jobs.claims import Claim, ClaimLost, ClaimRejected, ClaimRequest, claim_stages
from imago.core.jobs.completion import StageCompletion, complete_stages
from imago.core.jobs.stage_outcomes import StageEnded
from imago.core.jobs.stages import STAGES, ImageStatus, Stage, StageStatus
from imago.core.outbox.rows import Published, mark_published
from imago.core.outbox.work_message import WorkMessage
from imago.db.engine import Database
from imago.db.tables import dead_letters, image_stages
from tests.support.reads import get_image
from tests.support.samples import make_client, make_image

LEASE = timedelta(seconds=30)

RESULTS: dict[Stage, StageResult] = {
    Stage.THUMBNAIL: ThumbnailResult("image/webp", 512, 384, 77),
    Stage.EXIF: ExifResult(Camera("NIKON", "D70")),
    Stage.OCR: OcrResult(OcrReading(True, "words", "fr", 0.9, "tesserocr"), ()),
    Stage.VISION: VisionResult("A cat.", ("cat", "animal"), 0.8, "offline"),
}


def request(client: Client, image: UUID, stage: Stage, *, run: int = 1) -> ClaimRequest:
    return ClaimRequest(WorkMessage(image, client.uuid, stage, run, 1), {})


def completion(claim: object) -> StageCompletion:
    assert isinstance(claim, Claim), claim
    thumbnail_key = f"{claim.image.uuid}/thumb" if claim.stage is Stage.THUMBNAIL else None
    return StageCompletion(claim, RESULTS[claim.stage], {}, thumbnail_key)


async def claim(db: Database, *requests: ClaimRequest) -> list[object]:
    return list(await claim_stages(db, requests, lease=LEASE, max_tries=3))


async def complete(db: Database, claims: list[object]) -> list[StageEnded | ClaimLost]:
    return await complete_stages(db, [completion(each) for each in claims])


async def test_results_are_in_the_order_of_the_requests(db: Database) -> None:
    client = await make_client(db)
    first, second = await make_image(db, client), await make_image(db, client)
    results = await claim(
        db,
        request(client, second.uuid, Stage.EXIF),
        request(client, uuid4(), Stage.EXIF),
        request(client, first.uuid, Stage.THUMBNAIL),
        request(client, first.uuid, Stage.EXIF, run=2),
        request(client, second.uuid, Stage.THUMBNAIL),
    )
    assert [(each.image.id, each.stage) if isinstance(each, Claim) else each for each in results] == [
        (second.id, "exif"),
        ClaimRejected("image gone"),
        (first.id, "thumbnail"),
        ClaimRejected("another run"),
        (second.id, "thumbnail"),
    ]


async def test_claims_change_only_their_own_stages(db: Database) -> None:
    client = await make_client(db)
    first, second = await make_image(db, client), await make_image(db, client)
    await claim(
        db,
        request(client, first.uuid, Stage.THUMBNAIL),
        request(client, second.uuid, Stage.EXIF),
        request(client, second.uuid, Stage.THUMBNAIL),
    )
    row, stages = await get_stages(db, client.id, second.id)
    assert row.status is ImageStatus.PROCESSING
    assert row.started_at is not None
    assert {stage: stages[stage].status for stage in STAGES} == {
        Stage.THUMBNAIL: StageStatus.RUNNING,
        Stage.EXIF: StageStatus.RUNNING,
        Stage.OCR: StageStatus.PENDING,
        Stage.VISION: StageStatus.PENDING,
    }
    exif = (await get_stages(db, client.id, first.id))[1][Stage.EXIF]
    assert exif.status is StageStatus.PENDING, "locked with the others, but not claimed"


async def test_of_two_messages_for_one_stage_one_gets_the_claim_and_the_other_is_redelivered(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    first, second = await claim(db, *[request(client, image.uuid, Stage.EXIF)] * 2)
    assert isinstance(first, Claim)
    assert isinstance(second, ClaimRejected)
    assert second.retry_in is not None
    assert first.attempts == 1


async def test_a_stage_without_attempts_left_dies_beside_one_that_is_claimed(db: Database) -> None:
    client = await make_client(db)
    image, other = await make_image(db, client), await make_image(db, client)
    for _ in range(3):
        await claim(db, request(client, image.uuid, Stage.EXIF))
        async with db.write() as connection:
            await connection.execute(sa.update(image_stages).values(lease_until=None))
    dead, claimed = await claim(db, request(client, image.uuid, Stage.EXIF), request(client, other.uuid, Stage.EXIF))
    assert isinstance(dead, ClaimRejected)
    assert dead.ended is not None
    assert isinstance(claimed, Claim)
    async with db.read() as connection:
        letters = (await connection.execute(sa.select(dead_letters))).all()
    assert [(letter.image_id, letter.error_code) for letter in letters] == [(image.id, "worker-lost")]


async def test_an_image_whose_stages_end_together_is_done_once(db: Database) -> None:
    client = await make_client(db)
    images = [await make_image(db, client) for _ in range(3)]
    claims = await claim(db, *(request(client, image.uuid, stage) for image in images for stage in STAGES))
    ended = [each for each in await complete(db, claims[::-1]) if isinstance(each, StageEnded)]
    assert len(ended) == 12
    assert sum(each.image_done_after is not None for each in ended) == 3
    for image in images:
        row = await get_image(db, client.id, image.id)
        assert row.status is ImageStatus.DONE
        assert None not in (row.exif, row.ocr, row.vision)
        assert row.thumbnail_key == f"{image.uuid}/thumb"
    names = [[row.payload["name"] for row in each.outbox] for each in ended]
    assert sorted(names, key=len) == [["stage.done"]] * 9 + [["stage.done", "image.done"]] * 3
    assert all(len({row.payload["image_id"] for row in each.outbox}) == 1 for each in ended)
    assert (await get_usage(db, client.id)).storage_bytes == 3 * 1077


async def test_a_lost_claim_and_a_deleted_image_do_not_affect_other_results(db: Database) -> None:
    client = await make_client(db)
    lost, deleted, good = [await make_image(db, client) for _ in range(3)]
    claims = await claim(db, *(request(client, image.uuid, Stage.THUMBNAIL) for image in (lost, deleted, good)))
    await reprocess(db, client, lost.id, [Stage.THUMBNAIL], stages_off=frozenset(), headers={})
    await delete_image(db, client, deleted.id, headers={})
    before = {tombstone.object_key for tombstone in await due_tombstones(db, limit=10)}
    assert [type(each) for each in await complete(db, claims)] == [ClaimLost, ClaimLost, StageEnded]
    after = {tombstone.object_key for tombstone in await due_tombstones(db, limit=10)}
    assert after - before == {f"{deleted.uuid}/thumb"}, "a thumbnail stored after the image's deletion is deleted too"
    assert (await get_image(db, client.id, lost.id)).thumbnail_key is None
    assert (await get_image(db, client.id, good.id)).thumbnail_key == f"{good.uuid}/thumb"
    assert (await get_usage(db, client.id)).storage_bytes == 2 * 1000 + 77


async def test_the_result_of_a_later_run_replaces_that_of_an_earlier_one(db: Database) -> None:
    client = await make_client(db)
    image, other = await make_image(db, client), await make_image(db, client)
    await complete(db, await claim(db, request(client, image.uuid, Stage.EXIF)))
    await reprocess(db, client, image.id, [Stage.EXIF], stages_off=frozenset(), headers={})
    claims = await claim(db, request(client, image.uuid, Stage.EXIF, run=2), request(client, other.uuid, Stage.EXIF))
    assert [type(each) for each in await complete(db, claims)] == [StageEnded, StageEnded]
    assert (await get_stages(db, client.id, image.id))[1][Stage.EXIF].run == 2


async def test_concurrent_batches_with_the_same_images_never_deadlock(db: Database) -> None:
    client = await make_client(db)
    for _ in range(6):
        images = [await make_image(db, client) for _ in range(8)]
        published = [
            Published(row, "IMAGO_WORK_STANDARD", number) for image in images for number, row in enumerate(image.outbox)
        ]

        async def record_published(rows: list[Published] = published) -> None:
            async with db.write() as connection:
                await mark_published(connection, rows)

        async def process(stage: Stage, uuids: list[UUID]) -> None:
            await complete(db, await claim(db, *(request(client, uuid, stage) for uuid in uuids)))

        uuids = [image.uuid for image in images]
        orders = (uuids, uuids[::-1], uuids, uuids[::-1])
        await asyncio.gather(record_published(), *map(process, STAGES, orders))
        for image in images:
            assert (await get_image(db, client.id, image.id)).status is ImageStatus.DONE
