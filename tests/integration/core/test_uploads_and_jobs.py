"""The transactions of uploads, images and jobs, on SQLite and PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import orjson
import pytest
import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.clients.queries import get_usage
from imago.core.concurrency.leases import release_leases, take_lease
from imago.core.errors import IdempotencyInFlight, NotFound, QuotaExceeded, StageDisabled, UploadExpired
from imago.core.images.changes import UNSET, delete_image, reprocess, set_user_metadata
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.locks import lock_image
from imago.core.images.model import ImageFormat, ImageHeader
from imago.core.images.queries import get_stages, list_tags
from imago.core.images.results import (
    Camera,
    ExifResult,
    Gps,
    OcrReading,
    OcrResult,
    StageResult,
    ThumbnailResult,
    VisionResult,
)
from imago.core.images.tombstones import due_tombstones
from imago.core.jobs.claims import (
    Claim,
    ClaimLost,
    ClaimRejected,
    ClaimUnknown,
    extend_claim,
    release_claim,
    release_unknown_claim,
)
from imago.core.jobs.completion import FailedAttempt, fail_stage
from imago.core.jobs.failures import PermanentFailure, Throttled, TransientFailure
from imago.core.jobs.rules import Die, Park, RetryInStream
from imago.core.jobs.stage_outcomes import StageEnded
from imago.core.jobs.stages import STAGES, ImageStatus, Stage, StageStatus
from imago.core.jobs.stream_repair import find_open_stages, republish
from imago.core.outbox.rows import outbox_state
from imago.core.outbox.work_message import WorkMessage
from imago.core.times import utc_now
from imago.core.uploads.idempotency import Completion, KeyLease, acquire_key
from imago.core.uploads.intents import abandon_upload
from imago.core.uploads.model import AcceptedImage, NewImage
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database
from imago.db.migrations import upgrade
from imago.db.schema import current_revision, head_revision
from imago.db.tables import client_usage, dead_letters, image_stages, metadata, outbox
from tests.support.reads import get_image, list_images
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage, complete_stage

LEASE = timedelta(seconds=30)
THUMBNAIL_KEY = "client/image/thumbnail"

RESULTS: dict[Stage, StageResult] = {
    Stage.THUMBNAIL: ThumbnailResult("image/webp", 512, 384, 77),
    Stage.EXIF: ExifResult(Camera("NIKON", "D70", taken_at="2008-03-15T09:52:00"), Gps(43.5, 11.8, None, True, "u")),
    Stage.OCR: OcrResult(OcrReading(True, "Été à Marseille", "fr", 0.9, "tesserocr"), ()),
    Stage.VISION: VisionResult("A cat.", ("cat", "animal"), 0.8, "offline"),
}


def message(client: Client, image: UUID, stage: Stage, *, run: int = 1) -> WorkMessage:
    return WorkMessage(image, client.uuid, stage, run, 1)


async def claimed(db: Database, client: Client, image: object, stage: Stage, *, run: int = 1, tries: int = 3) -> Claim:
    claim = await claim_stage(db, message(client, image, stage, run=run), lease=LEASE, max_tries=tries, headers={})
    assert isinstance(claim, Claim), claim
    return claim


async def finish(db: Database, claim: Claim) -> StageEnded:
    return await complete_stage(db, claim, RESULTS[claim.stage], headers={}, thumbnail_key=THUMBNAIL_KEY)


async def fail(db: Database, claim: Claim, failure: Exception, *, tries: int = 3) -> FailedAttempt:
    base = timedelta(seconds=1)
    return await fail_stage(db, claim, failure, max_tries=tries, base=base, cap=base, headers={})


async def expire_leases(db: Database) -> None:
    async with db.write() as connection:
        await connection.execute(sa.update(image_stages).values(lease_until=None, due_at=None))


async def test_migrations_are_idempotent_and_can_run_concurrently(db: Database) -> None:
    await asyncio.gather(*(upgrade(db) for _ in range(4)))
    assert await current_revision(db) == head_revision()


async def test_the_migrated_schema_matches_the_tables_in_the_code(db: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"include_name": _is_described})
        return compare_metadata(context, metadata)

    async with db.read() as connection:
        assert await connection.run_sync(differences) == []


def _is_described(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and (name or "").startswith("image_search"))


async def test_an_accepted_image_has_stages_and_outbox_rows_and_is_charged(db: Database) -> None:
    client = await make_client(db)
    accepted = await make_image(db, client, size=1000)
    row, stages = await get_stages(db, client.id, accepted.uuid)
    assert (row.status, set(stages)) == (ImageStatus.PENDING, set(STAGES))
    assert [item.kind for item in accepted.outbox].count("work") == 4
    assert (await get_usage(db, client.id)).storage_bytes == 1000
    assert (await outbox_state(db)).parked == 5, "the relay leaves fresh rows to the eager publisher"


@pytest.mark.parametrize("processes", [1, 3, 50])
async def test_fifty_concurrent_uploads_fill_a_quota_for_ten_exactly(db: Database, processes: int) -> None:
    client = await make_client(db, storage_bytes=10_000)
    shared = [Uploads(db) for _ in range(processes)]
    outcomes = await asyncio.gather(
        *(make_image(db, client, size=1000, uploads=shared[number % processes]) for number in range(50)),
        return_exceptions=True,
    )
    rejected = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(problem) for problem in rejected} == {QuotaExceeded}
    assert len(rejected) == 40
    usage = await get_usage(db, client.id)
    assert (usage.storage_bytes, usage.images) == (10_000, 10)


async def test_an_upload_whose_intent_expired_is_rejected_and_not_charged(db: Database) -> None:
    client = await make_client(db)
    uuid = uuid4()
    intent = await Uploads(db).begin(client, image=uuid, object_key="c/i/original", ttl=timedelta(minutes=1))
    await abandon_upload(db, intent)
    header = ImageHeader(ImageFormat.PNG, 1, 1, 1)
    with pytest.raises(UploadExpired):
        await Uploads(db).accept(client, NewImage(intent, uuid, "a", header, 5, "0" * 64, "c/i/original", {}))
    assert (await get_usage(db, client.id)).images == 0
    assert [tombstone.object_key for tombstone in await due_tombstones(db, limit=10)] == [
        "c/i/original",
        "c/i/thumbnail",
    ]


async def test_concurrent_uploads_of_several_clients_are_accepted(db: Database) -> None:
    uploads, client, other = Uploads(db), await make_client(db), await make_client(db, "other")
    images = await asyncio.gather(
        *(
            make_image(db, who, name=f"{number}.jpg", sha256=f"{number % 3}" * 64, uploads=uploads)
            for number, who in enumerate([client, other] * 9)
        )
    )
    for who in (client, other):
        mine = sorted((each for each, of in zip(images, [client, other] * 9, strict=True) if of is who), key=by_id)
        firsts: dict[str, int] = {}
        for image in mine:
            row = await get_image(db, who.id, image.uuid)
            assert (row.id, row.original_name) == (image.id, image.original_name)
            assert image.duplicate_of == firsts.get(row.sha256)
            firsts.setdefault(row.sha256, image.id)
            assert {item.payload.get("image_uuid") or item.payload["image"] for item in image.outbox} == {
                str(image.uuid)
            }
        assert (await get_usage(db, who.id)).images == 9


def by_id(image: AcceptedImage) -> int:
    return image.id


async def test_an_expired_upload_does_not_fail_others_of_its_batch(db: Database) -> None:
    uploads, client = Uploads(db), await make_client(db)
    header, uuids = ImageHeader(ImageFormat.PNG, 1, 1, 1), [uuid4() for _ in range(4)]
    intents = [
        await uploads.begin(client, image=uuid, object_key=f"{uuid}/original", ttl=timedelta(minutes=1))
        for uuid in uuids
    ]
    await abandon_upload(db, intents[2])
    outcomes = await asyncio.gather(
        *(
            uploads.accept(client, NewImage(intent, uuid, "a", header, 5, uuid.hex * 2, f"{uuid}/original", {}))
            for intent, uuid in zip(intents, uuids, strict=True)
        ),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [AcceptedImage, AcceptedImage, UploadExpired, AcceptedImage]
    assert (await get_usage(db, client.id)).images == 3


async def test_rejected_uploads_do_not_fail_others_of_their_batch(db: Database) -> None:
    client, uploads = await make_client(db, storage_bytes=3500), Uploads(db)
    news = [await _stored(uploads, client, sha256 * 64) for sha256 in "aaabcd"]
    lease, ttl = timedelta(seconds=30), timedelta(hours=1)
    held = await acquire_key(db, client.id, "key", lease=lease, ttl=ttl)
    assert isinstance(held, KeyLease)
    good, stale = (Completion(each, "f" * 64, ttl) for each in (held, KeyLease(client.id, "key", uuid4())))
    outcomes = await asyncio.gather(
        *(
            uploads.accept(client, upload, completion=completion)
            for upload, completion in zip(news, [None, stale, good, None, None, None], strict=True)
        ),
        return_exceptions=True,
    )
    kinds = [AcceptedImage, IdempotencyInFlight, AcceptedImage, AcceptedImage, QuotaExceeded, QuotaExceeded]
    assert [type(outcome) for outcome in outcomes] == kinds
    first, again, _ = [outcome for outcome in outcomes if isinstance(outcome, AcceptedImage)]
    assert again.duplicate_of == first.id
    used = await get_usage(db, client.id)
    assert (used.storage_bytes, used.images) == (3000, 3)
    repeated = await acquire_key(db, client.id, "key", lease=lease, ttl=ttl)
    assert not isinstance(repeated, KeyLease)
    assert repeated.response["id"] == again.id


async def _stored(uploads: Uploads, client: Client, sha256: str) -> NewImage:
    uuid, header = uuid4(), ImageHeader(ImageFormat.JPEG, 640, 480, 1)
    intent = await uploads.begin(client, image=uuid, object_key=f"{uuid}/original", ttl=timedelta(minutes=1))
    return NewImage(intent, uuid, "again.jpg", header, 1000, sha256, f"{uuid}/original", {})


async def test_an_accepted_upload_cannot_be_abandoned(db: Database) -> None:
    """The response to a commit can be lost; the accepted image must keep its object."""
    client = await make_client(db)
    uuid = uuid4()
    intent = await Uploads(db).begin(client, image=uuid, object_key="c/i/original", ttl=timedelta(minutes=1))
    header = ImageHeader(ImageFormat.PNG, 1, 1, 1)
    await Uploads(db).accept(client, NewImage(intent, uuid, "a", header, 5, "0" * 64, "c/i/original", {}))
    assert not await abandon_upload(db, intent)
    assert await due_tombstones(db, limit=10) == []


async def test_concurrent_uploads_jobs_and_deletions_of_duplicates_do_not_deadlock(db: Database) -> None:
    client = await make_client(db)

    async def live(number: int) -> None:
        image = await make_image(db, client, sha256="d" * 64)
        held = await claimed(db, client, image.uuid, Stage.THUMBNAIL)
        await finish(db, held)
        if number % 2:
            await reprocess(db, client, image.id, None, stages_off=frozenset(), headers={})
            await delete_image(db, client, image.id, headers={})

    for _ in range(4):
        await asyncio.gather(*(live(number) for number in range(10)))
    usage = await get_usage(db, client.id)
    assert (usage.images, usage.storage_bytes) == (20, 20 * 1077)


async def test_the_same_bytes_are_a_duplicate_of_the_first_image(db: Database) -> None:
    client, other = await make_client(db), await make_client(db, "other")
    first = await make_image(db, client, sha256="a" * 64)
    assert (await make_image(db, client, sha256="a" * 64)).duplicate_of == first.id
    assert (await make_image(db, other, sha256="a" * 64)).duplicate_of is None


async def test_results_are_stored_and_the_last_stage_ends_the_image(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    ended = [await finish(db, await claimed(db, client, image.uuid, stage)) for stage in STAGES]
    assert [item.image_done_after is not None for item in ended] == [False, False, False, True]
    row = await get_image(db, client.id, image.id)
    assert row.status is ImageStatus.DONE
    assert orjson.loads(row.vision or "null")["tags"] == ["cat", "animal"]
    assert (await get_usage(db, client.id)).storage_bytes == 1077, "the thumbnail counts"


async def test_stages_that_end_concurrently_end_the_image_once(db: Database) -> None:
    client = await make_client(db)
    for _ in range(5):
        image = await make_image(db, client)
        claims = [await claimed(db, client, image.uuid, stage) for stage in STAGES]
        ended = await asyncio.gather(*(finish(db, claim) for claim in claims))
        assert sum(item.image_done_after is not None for item in ended) == 1
        assert (await get_image(db, client.id, image.id)).status is ImageStatus.DONE


async def test_a_second_worker_waits_while_the_first_holds_the_lease(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await claimed(db, client, image.uuid, Stage.OCR)
    second = await claim_stage(db, message(client, image.uuid, Stage.OCR), lease=LEASE, max_tries=3, headers={})
    assert isinstance(second, ClaimRejected)
    assert second.retry_in is not None


async def test_a_lease_starts_when_the_claim_gets_its_lock(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    async with db.write() as connection:
        await lock_image(connection, image.uuid)
        claiming = asyncio.create_task(claimed(db, client, image.uuid, Stage.OCR))
        # A transaction of another stage of the image may take this long.
        await asyncio.sleep(0.5)
        unlocked = utc_now()
    await claiming
    async with db.read() as connection:
        until = await connection.scalar(sa.select(image_stages.c.lease_until).where(image_stages.c.stage == Stage.OCR))
    assert until >= unlocked + LEASE, "waiting for the lock must not shorten the lease"


async def test_a_late_result_is_rejected(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    frozen = await claimed(db, client, image.uuid, Stage.OCR)
    await expire_leases(db)
    second = await claimed(db, client, image.uuid, Stage.OCR)
    with pytest.raises(ClaimLost):
        await finish(db, frozen)
    assert not await extend_claim(db, frozen, lease=LEASE)
    await finish(db, second)
    with pytest.raises(ClaimLost):
        await fail(db, frozen, TransientFailure("late", "late"))


async def test_a_message_of_an_ended_run_is_dropped(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await finish(db, await claimed(db, client, image.uuid, Stage.OCR))
    again = await claim_stage(db, message(client, image.uuid, Stage.OCR), lease=LEASE, max_tries=3, headers={})
    assert again == ClaimRejected("ended")
    gone = await claim_stage(db, message(client, uuid4(), Stage.OCR), lease=LEASE, max_tries=3, headers={})
    assert gone == ClaimRejected("image gone")


async def test_a_poison_file_uses_its_attempts_and_becomes_one_dead_letter(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    for attempt in (1, 2, 3):
        claim = await claimed(db, client, image.uuid, Stage.VISION)
        assert claim.attempts == attempt
        failed = await fail(db, claim, TransientFailure("child-died", "It died."))
        await expire_leases(db)
    assert failed.decision == Die()
    assert {item.kind for item in failed.outbox} == {"dead", "event"}
    async with db.read() as connection:
        letters = (await connection.execute(sa.select(dead_letters))).all()
    assert [(letter.stage, letter.attempts, letter.error_code) for letter in letters] == [("vision", 3, "child-died")]


async def test_a_file_that_kills_its_workers_is_dead_without_a_fourth_attempt(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    for _ in range(3):
        await claimed(db, client, image.uuid, Stage.OCR)
        await expire_leases(db)
    last = await claim_stage(db, message(client, image.uuid, Stage.OCR), lease=LEASE, max_tries=3, headers={})
    assert isinstance(last, ClaimRejected)
    assert last.ended is not None
    _, stages = await get_stages(db, client.id, image.id)
    assert (stages[Stage.OCR].status, stages[Stage.OCR].error_code) == (StageStatus.DEAD, "worker-lost")


async def test_a_released_attempt_does_not_count(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    for _ in range(5):
        claim = await claimed(db, client, image.uuid, Stage.OCR)
        assert claim.attempts == 1
        await release_claim(db, claim)


async def test_an_unknown_claim_is_released_only_if_it_is_the_workers_own(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    ours = await claimed(db, client, image.uuid, Stage.OCR)
    await release_unknown_claim(db, ClaimUnknown(ours))
    assert (await claimed(db, client, image.uuid, Stage.OCR)).attempts == 1
    await expire_leases(db)
    theirs = await claimed(db, client, image.uuid, Stage.OCR)
    # If the commit had failed, the next worker's claim would have the same number.
    never_committed = replace(theirs, lease_until=theirs.lease_until - timedelta(microseconds=1))
    await release_unknown_claim(db, ClaimUnknown(never_committed))
    assert await extend_claim(db, theirs, lease=LEASE)


async def test_a_throttled_stage_is_parked_in_the_outbox_under_a_new_epoch(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    claim = await claimed(db, client, image.uuid, Stage.VISION)
    failed = await fail(db, claim, Throttled("throttled", "Wait.", timedelta(minutes=10)))
    assert failed.decision == Park(timedelta(minutes=10), counted=False)
    async with db.read() as connection:
        epochs = list(await connection.scalars(sa.select(outbox.c.epoch).where(outbox.c.stage == "vision")))
    assert 2 in epochs
    _, stages = await get_stages(db, client.id, image.id)
    assert (stages[Stage.VISION].status, stages[Stage.VISION].attempts) == (StageStatus.RETRYING, 0)


async def test_a_transient_failure_is_retried_and_reported(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    failed = await fail(db, await claimed(db, client, image.uuid, Stage.OCR), TransientFailure("x", "y"))
    assert isinstance(failed.decision, RetryInStream)
    assert [item.payload["name"] for item in failed.outbox] == ["stage.retrying"]


async def test_an_image_with_a_dead_stage_is_partial_and_with_only_dead_stages_failed(db: Database) -> None:
    client = await make_client(db)
    partial, failed = await make_image(db, client), await make_image(db, client)
    for stage in STAGES:
        claim = await claimed(db, client, partial.uuid, stage)
        await (finish(db, claim) if stage is Stage.EXIF else fail(db, claim, PermanentFailure("bad", "Bad.")))
        await fail(db, await claimed(db, client, failed.uuid, stage), PermanentFailure("bad", "Bad."))
    assert (await get_image(db, client.id, partial.id)).status is ImageStatus.PARTIAL
    assert (await get_image(db, client.id, failed.id)).status is ImageStatus.FAILED


async def test_a_deleted_image_releases_its_quota_and_leaves_tombstones(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await finish(db, await claimed(db, client, image.uuid, Stage.THUMBNAIL))
    late = await claimed(db, client, image.uuid, Stage.VISION)
    await delete_image(db, client, image.id, headers={})
    with pytest.raises(ClaimLost):
        await finish(db, late)
    with pytest.raises(NotFound):
        await get_image(db, client.id, image.id)
    usage = await get_usage(db, client.id)
    assert (usage.storage_bytes, usage.images) == (0, 0)
    deleted = [tombstone.object_key for tombstone in await due_tombstones(db, limit=10)]
    assert len(deleted) == 3, "the original, the thumbnail, and what was written after the deletion"
    assert deleted[2] == THUMBNAIL_KEY
    assert (await list_images(db, client.id, ImageFilter(q="photo"), limit=5)).items == ()


async def test_reprocessing_starts_a_new_run_and_keeps_the_result_until_it_ends(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    for stage in STAGES:
        await finish(db, await claimed(db, client, image.uuid, stage))
    rows = await reprocess(db, client, image.id, [Stage.OCR], stages_off=frozenset(), headers={})
    assert [row.work.run for row in rows if row.work] == [2]
    row, stages = await get_stages(db, client.id, image.id)
    assert (row.status, stages[Stage.OCR].status, stages[Stage.OCR].run) == (
        ImageStatus.PROCESSING,
        StageStatus.PENDING,
        2,
    )
    assert orjson.loads(row.ocr or "null")["text"] == "Été à Marseille"
    stale = await claim_stage(db, message(client, image.uuid, Stage.OCR), lease=LEASE, max_tries=3, headers={})
    assert stale == ClaimRejected("another run")
    await finish(db, await claimed(db, client, image.uuid, Stage.OCR, run=2))
    assert (await get_image(db, client.id, image.id)).status is ImageStatus.DONE


async def test_a_disabled_stage_cannot_be_reprocessed(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    with pytest.raises(StageDisabled):
        await reprocess(db, client, image.id, [Stage.OCR], stages_off=frozenset({Stage.OCR}), headers={})
    rows = await reprocess(db, client, image.id, None, stages_off=frozenset({Stage.OCR}), headers={})
    assert Stage.OCR not in {row.work.stage for row in rows if row.work}


async def test_a_users_description_and_tags_are_stored_separately_and_searchable(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await finish(db, await claimed(db, client, image.uuid, Stage.VISION))
    await set_user_metadata(db, client, image.id, description="Notre château", tags=["Vacances", "cat"])
    row = await get_image(db, client.id, image.id)
    assert (row.user_description, row.user_tags) == ("Notre château", ["vacances", "cat"])
    assert orjson.loads(row.vision or "null")["description"] == "A cat."
    assert await list_tags(db, client.id, limit=10) == [("animal", 1), ("cat", 1), ("vacances", 1)]
    assert len((await list_images(db, client.id, ImageFilter(q="CHATEAU"), limit=5)).items) == 1
    await set_user_metadata(db, client, image.id, description=None, tags=UNSET)
    assert (await get_image(db, client.id, image.id)).user_tags == ["vacances", "cat"]


@pytest.mark.parametrize(
    ("query", "found"),
    [("marseille", 1), ("mars", 1), ("MARSEILLE ete", 1), ("ete marse", 1), ("mars ete", 0), ("lyon", 0)]
    + [(hostile, 0) for hostile in ('"', "* OR 1", "a & b | !", "NEAR(", "col:x", "';--", "\\", "---", "🙂")],
)
async def test_full_text_search_finds_words_and_accepts_any_query(db: Database, query: str, found: int) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await finish(db, await claimed(db, client, image.uuid, Stage.OCR))
    assert len((await list_images(db, client.id, ImageFilter(q=query), limit=5)).items) == found


async def test_filters_find_matching_images(db: Database) -> None:
    from datetime import datetime

    client = await make_client(db)
    image, _plain = await make_image(db, client, sha256="b" * 64), await make_image(db, client)
    for stage in (Stage.EXIF, Stage.VISION):
        await finish(db, await claimed(db, client, image.uuid, stage))
    wanted = [
        ImageFilter(camera="nikon d70"),
        ImageFilter(camera="D7"),
        ImageFilter(has_gps=True),
        ImageFilter(tags=("CAT",)),
        ImageFilter(sha256="b" * 64),
        ImageFilter(status=ImageStatus.PROCESSING),
        ImageFilter(taken_from=datetime(2008, 3, 15), taken_to=datetime(2008, 3, 16)),
    ]
    for narrowed in wanted:
        page = await list_images(db, client.id, narrowed, limit=5)
        assert [item.id for item in page.items] == [image.id], narrowed
    for nothing in (ImageFilter(camera="%"), ImageFilter(tags=("dog",)), ImageFilter(taken_from=datetime(2009, 1, 1))):
        assert (await list_images(db, client.id, nothing, limit=5)).items == ()


async def test_pages_contain_every_image_once(db: Database) -> None:
    client = await make_client(db)
    made = [(await make_image(db, client)).id for _ in range(7)]
    seen, before = [], None
    while True:
        page = await list_images(db, client.id, ImageFilter(), limit=3, before=before)
        seen += [item.id for item in page.items]
        before = page.next_before
        if before is None:
            break
    assert seen == sorted(made, reverse=True)


async def test_another_clients_images_are_not_found(db: Database) -> None:
    owner, other = await make_client(db), await make_client(db, "other")
    image = await make_image(db, owner)
    for read in (get_image, get_stages):
        with pytest.raises(NotFound):
            await read(db, other.id, image.id)
    with pytest.raises(NotFound):
        await delete_image(db, other, image.uuid, headers={})
    with pytest.raises(NotFound):
        await reprocess(db, other, image.id, None, stages_off=frozenset(), headers={})
    with pytest.raises(NotFound):
        await set_user_metadata(db, other, image.id, description="mine")
    assert (await list_images(db, other.id, ImageFilter(q="photo"), limit=5)).items == ()


async def test_ids_are_not_reused(db: Database) -> None:
    client = await make_client(db)
    first = await make_image(db, client)
    await delete_image(db, client, first.id, headers={})
    assert (await make_image(db, client)).id > first.id


async def test_a_lease_belongs_to_one_holder_until_it_expires(db: Database) -> None:
    assert await take_lease(db, "task", "a", ttl=LEASE)
    assert not await take_lease(db, "task", "b", ttl=LEASE)
    assert await take_lease(db, "task", "a", ttl=timedelta(seconds=-1))
    assert await take_lease(db, "task", "b", ttl=LEASE)


async def test_released_leases_can_be_taken_immediately(db: Database) -> None:
    assert await take_lease(db, "task", "a", ttl=LEASE)
    await release_leases(db, "a")
    assert await take_lease(db, "task", "b", ttl=LEASE)


async def test_a_stage_without_a_message_is_found_and_republished_once(db: Database) -> None:
    client = await make_client(db)
    await make_image(db, client)
    assert await find_open_stages(db, quiet_for=timedelta(0), limit=10) == [], "their messages are in the outbox"
    async with db.write() as connection:
        await connection.execute(sa.delete(outbox))
    found = await find_open_stages(db, quiet_for=timedelta(0), limit=10)
    assert {item.stage for item in found} == set(STAGES)
    row = await republish(db, found[0])
    assert row is not None
    assert row.work is not None
    assert row.work.epoch == 2
    assert await republish(db, found[0]) is None, "its epoch has changed"


async def test_every_client_has_a_usage_row(db: Database) -> None:
    client = await make_client(db)
    async with db.read() as connection:
        assert (
            await connection.scalar(sa.select(client_usage.c.images).where(client_usage.c.client_id == client.id)) == 0
        )
