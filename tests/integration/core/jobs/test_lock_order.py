"""Concurrent transactions that lock several rows do not deadlock.

Each transaction first waits for a row that the test has locked, so that the others certainly start in between.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from devtools.waiting import until
from imago.core.clients.gcra import Rate
from imago.core.clients.model import Client
from imago.core.clients.rate_limits import DatabaseRates, expire_rates
from imago.core.errors import UploadExpired
from imago.core.images.changes import delete_image
from imago.core.images.model import ImageFormat, ImageHeader
from imago.core.images.queries import ImageReads
from imago.core.images.results import ExifResult
from imago.core.jobs.claims import Claim, ClaimRequest, claim_stages
from imago.core.jobs.completion import StageCompletion, complete_stages
from imago.core.jobs.stages import Stage
from imago.core.outbox.rows import Published, mark_published
from imago.core.outbox.work_message import WorkMessage
from imago.core.uploads.expiry import expire_intents
from imago.core.uploads.model import AcceptedImage, NewImage
from imago.core.uploads.transactions import Uploads
from imago.db.engine import SYSTEM, Database
from imago.db.tables import client_usage, image_stages, images, upload_intents
from tests.support.samples import make_client, make_image

LEASE = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def _locks_rows(db: Database) -> None:
    if db.is_sqlite:
        pytest.skip("SQLite locks no rows")


@asynccontextmanager
async def locked(db: Database, statement: sa.Executable) -> AsyncIterator[asyncio.Event]:
    """Lock the rows of a statement until the event is set."""
    held, unlock = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with db.write(SYSTEM) as connection:
            await connection.execute(statement)
            held.set()
            await unlock.wait()

    task = asyncio.create_task(hold())
    await held.wait()
    try:
        yield unlock
    finally:
        unlock.set()
        await task


async def started(db: Database, transaction: Awaitable[Any]) -> "asyncio.Future[Any]":
    """Start a transaction, and return when it waits for a lock or has ended."""
    before = await waiting_sessions(db)
    task = asyncio.ensure_future(transaction)

    async def waits_or_has_ended() -> bool:
        return task.done() or await waiting_sessions(db) > before

    await until(waits_or_has_ended, what="the transaction to wait for a lock or to end")
    return task


async def waiting_sessions(db: Database) -> int:
    async with db.read(SYSTEM) as connection:
        waiting = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(await connection.scalar(waiting) or 0)


async def stored(uploads: Uploads, client: Client, sha256: str, *, ttl: int = 600) -> NewImage:
    uuid = uuid4()
    intent = await uploads.begin(client, image=uuid, object_key=f"{uuid}/original", ttl=timedelta(seconds=ttl))
    header = ImageHeader(ImageFormat.JPEG, 640, 480, 1)
    return NewImage(intent, uuid, "again.jpg", header, 1000, sha256, f"{uuid}/original", {})


def request(client: Client, image: AcceptedImage, stage: Stage = Stage.EXIF) -> ClaimRequest:
    return ClaimRequest(WorkMessage(image.uuid, client.uuid, stage, 1, 1), {})


def row_of(image: AcceptedImage) -> sa.Executable:
    return sa.select(images.c.id).where(images.c.id == image.id).with_for_update()


async def claim(db: Database, *requests: ClaimRequest) -> list[Claim]:
    claims = await claim_stages(db, requests, lease=LEASE, max_tries=3)
    assert all(isinstance(each, Claim) for each in claims), claims
    return [each for each in claims if isinstance(each, Claim)]


def completions(claims: list[Claim]) -> list[StageCompletion]:
    return [StageCompletion(each, ExifResult(), {}) for each in claims]


async def test_duplicates_are_accepted_while_their_originals_are_claimed(db: Database) -> None:
    client, uploads = await make_client(db), Uploads(db)
    a, middle, b = [await make_image(db, client, sha256=name * 64) for name in "amb"]
    again_b, again_a = await stored(uploads, client, "b" * 64), await stored(uploads, client, "a" * 64)
    async with locked(db, row_of(middle)) as unlock:
        claiming = await started(db, claim(db, *(request(client, each) for each in (a, middle, b))))
        accepting = await started(db, asyncio.gather(uploads.accept(client, again_b), uploads.accept(client, again_a)))
        unlock.set()
        await claiming
        assert [each.duplicate_of for each in await accepting] == [b.id, a.id]


async def test_an_image_is_deleted_while_stages_of_its_duplicates_end(db: Database) -> None:
    client = await make_client(db)
    first = await make_image(db, client, sha256="a" * 64)
    one, middle, two = [await make_image(db, client, sha256=name * 64) for name in "aba"]
    # Each claim moves its row to the end of the table, and the foreign key's cascade finds the rows in that order.
    claims = [(await claim(db, request(client, each)))[0] for each in (two, middle, one)]
    async with locked(db, row_of(middle)) as unlock:
        ending = await started(db, complete_stages(db, completions(claims)))
        deleting = await started(db, delete_image(db, client, first.id, headers={}))
        unlock.set()
        await asyncio.gather(ending, deleting)


async def test_claims_completions_and_publications_of_the_same_images_do_not_deadlock(db: Database) -> None:
    client = await make_client(db)
    one, between, two, three = [await make_image(db, client) for _ in range(4)]
    claims = await claim(db, request(client, one), request(client, three))
    published = [
        Published(row, "IMAGO_WORK_STANDARD", 1)
        for image in (one, between, two)
        for row in image.outbox
        if row.work is not None and row.work.stage is Stage.EXIF
    ]

    async def record_published() -> None:
        async with db.write(SYSTEM) as connection:
            await mark_published(connection, published)

    stage = sa.select(image_stages.c.stage).where(
        image_stages.c.image_id == between.id, image_stages.c.stage == Stage.EXIF
    )
    async with locked(db, stage.with_for_update()) as unlock:
        publishing = await started(db, record_published())
        ending = await started(db, complete_stages(db, completions(claims)))
        claiming = await started(db, claim(db, request(client, two), request(client, three, Stage.OCR)))
        unlock.set()
        await asyncio.gather(publishing, ending, claiming)


async def test_rates_expire_while_a_batch_is_charged(db: Database) -> None:
    rates, rate = DatabaseRates(db), Rate(6000, 100)
    for subject in ("client 7", "client 6", "client 5"):
        await rates.spend(subject, rate)
        async with db.write(SYSTEM) as connection:
            await connection.execute(sa.text("UPDATE rate_limits SET tat = 0"))
    async with locked(db, sa.text("SELECT 1 FROM rate_limits WHERE subject = 'client 6' FOR UPDATE")) as unlock:
        expiring = await started(db, expire_rates(db, idle=timedelta(days=1)))
        charging = await started(db, asyncio.gather(rates.spend("client 5", rate), rates.spend("client 7", rate)))
        unlock.set()
        await expiring
        assert all(each.allowed for each in await charging)


async def test_intents_expire_while_their_uploads_are_accepted(db: Database) -> None:
    client, uploads = await make_client(db), Uploads(db)
    one, middle, two = [await stored(uploads, client, name * 64, ttl=-1) for name in "amb"]
    intent = sa.select(upload_intents.c.id).where(upload_intents.c.id == middle.intent_id).with_for_update()
    async with locked(db, intent) as unlock:
        expiring = await started(db, expire_intents(db))
        accepting = await started(
            db, asyncio.gather(uploads.accept(client, two), uploads.accept(client, one), return_exceptions=True)
        )
        unlock.set()
        await expiring
        assert [type(each) for each in await accepting] == [UploadExpired] * 2


async def test_a_locked_rate_blocks_no_other_subject(db: Database) -> None:
    rates, rate = DatabaseRates(db), Rate(6000, 100)
    subjects = [f"client {number}" for number in range(4)]
    for subject in subjects:
        await rates.spend(subject, rate)
    async with locked(db, sa.text("SELECT 1 FROM rate_limits WHERE subject = 'client 2' FOR UPDATE")):
        charges = [asyncio.ensure_future(rates.spend(subject, rate)) for subject in subjects * 5]
        others = [charge for charge, subject in zip(charges, subjects * 5, strict=True) if subject != "client 2"]
        async with asyncio.timeout(5):
            assert all(verdict.allowed for verdict in await asyncio.gather(*others))
        assert not any(charge.done() for charge in charges if charge not in others)
    assert all(verdict.allowed for verdict in await asyncio.gather(*charges))


async def test_waiting_uploads_of_one_client_leave_connections_to_other_clients(db: Database) -> None:
    client, other, uploads = await make_client(db), await make_client(db, "other"), Uploads(db)
    theirs = await make_image(db, other)
    waiting = [await stored(uploads, client, f"{number % 10}" * 64) for number in range(20)]
    usage = sa.select(client_usage.c.client_id).where(client_usage.c.client_id == client.id).with_for_update()
    async with locked(db, usage):
        accepting = []
        for upload in waiting:
            accepting.append(asyncio.ensure_future(uploads.accept(client, upload)))
            await asyncio.sleep(0.07)
        in_use, _ = db.pool_state()
        assert in_use <= 4, "three slow batches, and the connection that holds the lock"
        async with asyncio.timeout(5):
            assert (await ImageReads(db).one(other.id, theirs.id)).id == theirs.id
    assert len({image.id for image in await asyncio.gather(*accepting)}) == 20
