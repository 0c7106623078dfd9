"""Claims and results of several stages in one transaction: as if each had come alone."""

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
from imago.core.jobs import claims
from imago.core.jobs import completion as work
from imago.core.jobs.claims import Claim, ClaimLost, Ended, Refused, Wanted
from imago.core.jobs.completion import Finished
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


def wanted(client: Client, image: UUID, stage: Stage, *, run: int = 1) -> Wanted:
    return Wanted(WorkMessage(image, client.uuid, stage, run, 1), {})


def finished(held: object) -> Finished:
    assert isinstance(held, Claim), held
    return Finished(held, RESULTS[held.stage], {}, f"{held.image.uuid}/thumb" if held.stage == "thumbnail" else None)


async def claim(db: Database, *asked: Wanted) -> list[object]:
    return list(await claims.claim(db, asked, lease=LEASE, max_tries=3))


async def test_claims_come_in_the_order_in_which_they_were_asked_for(db: Database) -> None:
    client = await make_client(db)
    first, second = await make_image(db, client), await make_image(db, client)
    asked = [
        wanted(client, second.uuid, Stage.EXIF),
        wanted(client, uuid4(), Stage.EXIF),
        wanted(client, first.uuid, Stage.THUMBNAIL),
        wanted(client, first.uuid, Stage.EXIF, run=2),
        wanted(client, second.uuid, Stage.THUMBNAIL),
    ]
    got = await claim(db, *asked)
    assert [(each.image.id, each.stage) if isinstance(each, Claim) else each for each in got] == [
        (second.id, "exif"),
        Refused("image gone"),
        (first.id, "thumbnail"),
        Refused("another run"),
        (second.id, "thumbnail"),
    ]
    row, stages = await get_stages(db, client.id, second.id)
    assert row.status is ImageStatus.PROCESSING
    assert row.started_at is not None
    statuses = {stage: stages[stage].status for stage in STAGES}
    assert statuses == {
        Stage.THUMBNAIL: StageStatus.RUNNING,
        Stage.EXIF: StageStatus.RUNNING,
        Stage.OCR: StageStatus.PENDING,
        Stage.VISION: StageStatus.PENDING,
    }
    exif = (await get_stages(db, client.id, first.id))[1][Stage.EXIF]
    assert exif.status is StageStatus.PENDING, "what was only locked beside the others was touched"


async def test_of_two_messages_for_one_stage_one_gets_the_claim(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    one, other = await claim(db, *[wanted(client, image.uuid, Stage.EXIF)] * 2)
    assert isinstance(one, Claim)
    assert isinstance(other, Refused)
    assert other.retry_in is not None, "its message would be acknowledged"
    assert one.attempts == 1


async def test_a_stage_without_tries_dies_beside_one_that_is_claimed(db: Database) -> None:
    client = await make_client(db)
    image, other = await make_image(db, client), await make_image(db, client)
    for _ in range(3):
        await claim(db, wanted(client, image.uuid, Stage.EXIF))
        async with db.write() as connection:
            await connection.execute(sa.update(image_stages).values(lease_until=None))
    dead, held = await claim(db, wanted(client, image.uuid, Stage.EXIF), wanted(client, other.uuid, Stage.EXIF))
    assert isinstance(dead, Refused)
    assert dead.ended is not None
    assert isinstance(held, Claim)
    async with db.read() as connection:
        letters = (await connection.execute(sa.select(dead_letters))).all()
    assert [(letter.image_id, letter.error_code) for letter in letters] == [(image.id, "worker-lost")]


async def test_all_stages_of_several_images_end_their_images_once(db: Database) -> None:
    client = await make_client(db)
    images = [await make_image(db, client) for _ in range(3)]
    held = await claim(db, *(wanted(client, image.uuid, stage) for image in images for stage in STAGES))
    ended = await work.finish(db, [finished(each) for each in reversed(held)])
    assert all(isinstance(each, Ended) for each in ended)
    assert sum(each.image_done_after is not None for each in ended if isinstance(each, Ended)) == 3
    for image in images:
        row = await get_image(db, client.id, image.id)
        assert row.status is ImageStatus.DONE
        assert None not in (row.exif, row.ocr, row.vision)
        assert row.thumbnail_key == f"{image.uuid}/thumb"
    told = [[row.payload["name"] for row in each.outbox] for each in ended if isinstance(each, Ended)]
    assert sorted(map(len, told)) == [1] * 9 + [2] * 3
    for each, names in zip(ended, told, strict=True):
        assert isinstance(each, Ended)
        assert names == ["stage.done", "image.done"][: len(names)]
        assert len({row.payload["image_id"] for row in each.outbox}) == 1, "events were told of another image"
    assert (await get_usage(db, client.id)).storage_bytes == 3 * 1077


async def test_a_lost_claim_and_a_deleted_image_leave_the_others_alone(db: Database) -> None:
    client = await make_client(db)
    lost, gone, good = [await make_image(db, client) for _ in range(3)]
    held = await claim(db, *(wanted(client, image.uuid, Stage.THUMBNAIL) for image in (lost, gone, good)))
    await reprocess(db, client, lost.id, [Stage.THUMBNAIL], stages_off=frozenset(), headers={})
    await delete_image(db, client, gone.id, headers={})
    buried = {grave.object_key for grave in await due_tombstones(db, limit=10)}
    ended = await work.finish(db, [finished(each) for each in held])
    assert [type(each) for each in ended] == [ClaimLost, ClaimLost, Ended]
    graves = {grave.object_key for grave in await due_tombstones(db, limit=10)}
    assert graves - buried == {f"{gone.uuid}/thumb"}, "a thumbnail that came after its image's deletion is deleted too"
    assert (await get_image(db, client.id, lost.id)).thumbnail_key is None
    assert (await get_image(db, client.id, good.id)).thumbnail_key == f"{good.uuid}/thumb"
    assert (await get_usage(db, client.id)).storage_bytes == 2 * 1000 + 77


async def test_a_later_run_takes_the_place_of_an_earlier_one(db: Database) -> None:
    client = await make_client(db)
    image, other = await make_image(db, client), await make_image(db, client)
    await work.finish(db, [finished(each) for each in await claim(db, wanted(client, image.uuid, Stage.EXIF))])
    await reprocess(db, client, image.id, [Stage.EXIF], stages_off=frozenset(), headers={})
    held = await claim(db, wanted(client, image.uuid, Stage.EXIF, run=2), wanted(client, other.uuid, Stage.EXIF))
    assert [type(each) for each in await work.finish(db, [finished(each) for each in held])] == [Ended, Ended]
    assert (await get_stages(db, client.id, image.id))[1][Stage.EXIF].run == 2


async def test_batches_that_cross_each_other_never_deadlock(db: Database) -> None:
    client = await make_client(db)
    for _ in range(6):
        images = [await make_image(db, client) for _ in range(8)]
        publications = [
            Published(row, "IMAGO_WORK_STANDARD", number) for image in images for number, row in enumerate(image.outbox)
        ]

        async def note_published(rows: list[Published] = publications) -> None:
            async with db.write() as connection:
                await mark_published(connection, rows)

        async def carry_out(stage: Stage, order: int, those: list[UUID]) -> None:
            held = await claim(db, *(wanted(client, uuid, stage) for uuid in those[::order]))
            await work.finish(db, [finished(each) for each in held])

        uuids = [image.uuid for image in images]
        await asyncio.gather(
            note_published(),
            *(carry_out(stage, order, uuids) for stage, order in zip(STAGES, (1, -1, 1, -1), strict=True)),
        )
        for image in images:
            assert (await get_image(db, client.id, image.id)).status is ImageStatus.DONE
