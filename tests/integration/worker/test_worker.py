"""A worker on a real NATS server and both databases, with a stub in place of its stage."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from devtools.waiting import until
from imago.core.clients.model import Client
from imago.core.images.changes import delete_image, reprocess
from imago.core.images.queries import StageRow, get_stages
from imago.core.images.results import ExifResult
from imago.core.jobs import claims, completion
from imago.core.jobs.claims import Claim, ClaimLost, ClaimRejected, ClaimRequest, ClaimUnknown
from imago.core.jobs.completion import StageCompletion
from imago.core.jobs.failures import PermanentFailure, Throttled, TransientFailure
from imago.core.jobs.stage_outcomes import StageEnded
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.uploads.model import AcceptedImage
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable, RowScope
from imago.db.tables import stage_results
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.outbox_relay import OutboxRelay
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_streams
from imago.objects.store import ObjectMissing, StorageUnavailable
from imago.settings import Settings
from imago.worker.service import Worker
from imago.worker.stages.base import StageOutput
from tests.support.samples import make_client, make_image

Behaviour = Callable[[Claim], Awaitable[None]]


@dataclass
class Stub:
    """A stage handler with a given behaviour that records its attempts."""

    behaviour: Behaviour
    attempts: list[Claim] = field(default_factory=list)

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        assert directory.is_dir()
        self.attempts.append(claim)
        await self.behaviour(claim)
        return StageOutput(ExifResult())


@dataclass
class Rig:
    """The servers and parts of a test."""

    db: Database
    eager_publisher: EagerPublisher
    relay: OutboxRelay
    nats: NatsConnection
    client: Client
    settings: Settings

    async def image(self) -> AcceptedImage:
        accepted = await make_image(self.db, self.client)
        self.eager_publisher.publish_soon(accepted.outbox)
        return accepted

    async def stage(self, image: AcceptedImage, stage: Stage = Stage.EXIF) -> StageRow:
        return (await get_stages(self.db, self.client.id, image.id))[1][stage]

    async def ended(self, image: AcceptedImage, status: StageStatus, stage: Stage = Stage.EXIF) -> StageRow:
        async def reached() -> StageRow | None:
            row = await self.stage(image, stage)
            return row if row.status is status else None

        row = await until(reached, what=f"the stage to be {status}")
        assert row is not None
        return row

    @asynccontextmanager
    async def worker(self, stub: Stub, stage: Stage = Stage.EXIF) -> AsyncIterator[None]:
        stop = asyncio.Event()
        worker = Worker(
            settings=self.settings,
            db=self.db,
            nats=self.nats,
            outbox_publisher=self.eager_publisher,
            handlers={stage: stub},
        )
        running = asyncio.create_task(worker.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running


@pytest.fixture
async def rig(db: Database, nats: NatsConnection) -> AsyncIterator[Rig]:
    settings = Settings(heartbeat=0.4, retry_base=0.05, retry_cap=0.1, shutdown_timeout=0.3, worker_max_tries=3)
    await ensure_streams(nats.js, options=StreamOptions(ack_wait=settings.ack_wait))
    publisher = Publisher(nats, timeout=5)
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    yield Rig(db, eager_publisher, OutboxRelay(db, nats, publisher), nats, await make_client(db), settings)
    await eager_publisher.close()


def fails_with(error: BaseException, *, times: int = 99) -> Behaviour:
    left = [times]

    async def behaviour(_claim: Claim) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return behaviour


async def test_a_stage_is_done_once_and_its_message_is_gone(rig: Rig) -> None:
    stub = Stub(fails_with(ValueError(), times=0))
    image = await rig.image()
    async with rig.worker(stub):
        await rig.ended(image, StageStatus.DONE)
    assert len(stub.attempts) == 1
    info = await rig.nats.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
    assert (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_a_transient_failure_is_retried_until_the_stage_is_done(rig: Rig) -> None:
    stub = Stub(fails_with(TransientFailure("x", "y"), times=2))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert (row.attempts, row.error_code) == (3, None)


@pytest.mark.parametrize(
    ("error", "code", "attempts"),
    [
        (PermanentFailure("bad-image", "Bad."), "bad-image", 1),
        (TransientFailure("child-died", "Died."), "child-died", 3),
        (RuntimeError("a bug"), "internal-error", 3),
        (ObjectMissing("gone"), "original-missing", 1),
    ],
)
async def test_a_poison_image_uses_exactly_its_attempts(rig: Rig, error: Exception, code: str, attempts: int) -> None:
    stub = Stub(fails_with(error))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DEAD)
    assert (row.error_code, row.attempts, len(stub.attempts)) == (code, attempts, attempts)
    assert "a bug" not in (row.error_text or "")


@pytest.mark.parametrize(
    "error",
    [
        StorageUnavailable("unavailable"),
        OSError(errno.ENOSPC, "No space left on device"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
    ids=["storage unavailable", "no disk space", "no process"],
)
async def test_an_infrastructure_error_costs_no_attempt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("imago.worker.runner.REDELIVERY_DELAY", timedelta(seconds=0.05))
    stub = Stub(fails_with(error, times=5))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert (row.attempts, len(stub.attempts)) == (1, 6)


async def test_a_claim_whose_commit_is_unknown_costs_no_attempt(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imago.worker.runner.REDELIVERY_DELAY", timedelta(seconds=0.05))
    write, lost = rig.db.write, []

    @asynccontextmanager
    async def lose_the_first_commit(scope: RowScope = SYSTEM) -> AsyncIterator[AsyncConnection]:
        async with write(scope) as connection:
            yield connection
        if not lost:
            lost.append(scope)
            raise DatabaseUnavailable("the connection was lost during the commit")

    stub = Stub(fails_with(ValueError(), times=0))
    image = await rig.image()
    monkeypatch.setattr(rig.db, "write", lose_the_first_commit)
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert lost
    assert (row.attempts, len(stub.attempts)) == (1, 1)


async def test_an_outage_of_the_database_longer_than_a_lease_costs_no_attempt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imago.worker.runner.REDELIVERY_DELAY", timedelta(seconds=0.05))
    loop, release = asyncio.get_running_loop(), claims.release_claim
    available_at = loop.time() + 1.5 * rig.settings.ack_wait

    async def unavailable_until_then(*args: Any, **options: Any) -> Any:
        if loop.time() < available_at:
            raise DatabaseUnavailable("unavailable")
        return await release(*args, **options)

    async def fail_to_extend(*_: object, **__: object) -> bool:
        raise DatabaseUnavailable("unavailable")

    monkeypatch.setattr("imago.core.jobs.claims.release_claim", unavailable_until_then)
    monkeypatch.setattr("imago.core.jobs.claims.extend_claim", fail_to_extend)
    stub = Stub(fails_with(DatabaseUnavailable("unavailable"), times=1))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert (row.attempts, len(stub.attempts)) == (1, 2)


async def test_a_throttled_stage_leaves_the_stream_until_it_is_due(rig: Rig) -> None:
    stub = Stub(fails_with(Throttled("throttled", "Wait.", timedelta(seconds=1)), times=1))
    image = await rig.image()
    async with rig.worker(stub):
        await rig.ended(image, StageStatus.RETRYING)

        async def no_lag() -> bool:
            info = await rig.nats.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
            return (info.num_pending, info.num_ack_pending) == (0, 0)

        await until(no_lag, what="the message to leave the stream")

        async def relayed() -> int:
            return await rig.relay.run_once()

        await until(relayed, what="the relay to publish the parked run")
        row = await rig.ended(image, StageStatus.DONE)
    assert row.attempts == 1


async def test_a_stopping_worker_releases_its_running_attempt(rig: Rig) -> None:
    started_work = asyncio.Event()

    async def hang(_claim: Claim) -> None:
        started_work.set()
        await asyncio.sleep(60)

    image = await rig.image()
    async with rig.worker(Stub(hang)):
        await started_work.wait()
    row = await rig.stage(image)
    assert (row.status, row.attempts) == (StageStatus.PENDING, 0)
    async with rig.worker(Stub(fails_with(ValueError(), times=0))):
        assert (await rig.ended(image, StageStatus.DONE)).attempts == 1


async def test_a_long_stage_is_run_by_only_one_worker(rig: Rig) -> None:
    async def slow(_claim: Claim) -> None:
        await asyncio.sleep(3 * rig.settings.ack_wait)

    first, second = Stub(slow), Stub(slow)
    image = await rig.image()
    async with rig.worker(first), rig.worker(second):
        await rig.ended(image, StageStatus.DONE)
    assert len(first.attempts) + len(second.attempts) == 1


async def never(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


async def test_a_message_is_not_redelivered_while_the_database_hangs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # The lease expires, but the message has its own heartbeat.
    monkeypatch.setattr("imago.core.jobs.claims.extend_claim", never)

    async def slow(_claim: Claim) -> None:
        await asyncio.sleep(2.5 * rig.settings.ack_wait)

    first, second = Stub(slow), Stub(slow)
    image = await rig.image()
    async with rig.worker(first), rig.worker(second):
        assert (await rig.ended(image, StageStatus.DONE)).attempts == 1
    assert len(first.attempts) + len(second.attempts) == 1


async def test_a_worker_never_claims_a_run_that_it_is_still_running(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a process without enough CPU: both heartbeats are late.
    monkeypatch.setattr("imago.core.jobs.claims.extend_claim", never)
    monkeypatch.setattr("imago.nats.consumer.Delivery.in_progress", never)

    async def slow(_claim: Claim) -> None:
        await asyncio.sleep(2.5 * rig.settings.ack_wait)

    stub = Stub(slow)
    image = await rig.image()
    async with rig.worker(stub):
        assert (await rig.ended(image, StageStatus.DONE)).attempts == 1
    assert len(stub.attempts) == 1


async def test_a_message_that_waits_for_its_clients_share_is_not_redelivered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.settings = rig.settings.model_copy(update={"worker_processes": 1, "worker_max_jobs": 2})
    returned = []

    async def nak(_delivery: object, delay: object) -> None:
        returned.append(delay)

    monkeypatch.setattr("imago.nats.consumer.Delivery.nak", nak)

    async def slow(_claim: Claim) -> None:
        await asyncio.sleep(2 * rig.settings.ack_wait)

    images = [await rig.image(), await rig.image()]
    async with rig.worker(Stub(slow), Stage.THUMBNAIL):
        for image in images:
            await rig.ended(image, StageStatus.DONE, Stage.THUMBNAIL)
    assert not returned


async def test_the_result_of_a_run_replaced_by_a_reprocess_is_rejected(rig: Rig) -> None:
    started_work, resume = asyncio.Event(), asyncio.Event()

    async def wait_once(claim: Claim) -> None:
        if claim.run == 1:
            started_work.set()
            await resume.wait()

    stub = Stub(wait_once)
    image = await rig.image()
    async with rig.worker(stub):
        await started_work.wait()
        rows = await reprocess(rig.db, rig.client, image.id, [Stage.EXIF], stages_off=frozenset(), headers={})
        rig.eager_publisher.publish_soon(rows)
        await rig.ended(image, StageStatus.DONE)
        resume.set()
    async with rig.db.read() as connection:
        query = sa.select(stage_results.c.run).where(stage_results.c.image_id == image.id)
        assert list(await connection.scalars(query)) == [2]


async def test_an_image_deleted_during_a_stage_stays_deleted(rig: Rig) -> None:
    started_work, resume = asyncio.Event(), asyncio.Event()

    async def wait(_claim: Claim) -> None:
        started_work.set()
        await resume.wait()

    image = await rig.image()
    async with rig.worker(Stub(wait)):
        await started_work.wait()
        await delete_image(rig.db, rig.client, image.id, headers={})
        resume.set()

        async def settled() -> bool:
            info = await rig.nats.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
            return info.num_ack_pending == 0 and info.num_pending == 0

        await until(settled, what="the message to be settled")
    async with rig.db.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(stage_results)) == 0


async def test_an_unreadable_message_is_terminated(rig: Rig) -> None:
    await rig.nats.js.publish("imago.work.standard.exif.0", b"\xff not json")
    image = await rig.image()
    async with rig.worker(Stub(fails_with(ValueError(), times=0))):
        await rig.ended(image, StageStatus.DONE)

        async def empty() -> bool:
            info = await rig.nats.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
            return info.num_ack_pending == 0

        await until(empty, what="the unreadable message to be terminated")


async def test_a_result_that_cannot_be_stored_does_not_affect_the_others_of_its_batch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, started, sizes = asyncio.Event(), [0], []
    store = completion.complete_stages

    async def reject_bad(db: Database, completions: Sequence[StageCompletion]) -> list[StageEnded | ClaimLost]:
        sizes.append(len(completions))
        if any(each.claim.image.id == bad.id for each in completions):
            raise ValueError("cannot be stored")
        return await store(db, completions)

    async def end_together(_claim: Claim) -> None:
        started[0] += 1
        if started[0] == 4:
            together.set()
        await together.wait()

    monkeypatch.setattr("imago.core.jobs.completion.complete_stages", reject_bad)
    images = [await rig.image() for _ in range(4)]
    bad = images[2]
    async with rig.worker(Stub(end_together)):
        for image in images:
            await rig.ended(image, StageStatus.DEAD if image is bad else StageStatus.DONE)
    assert max(sizes) > 1, "the results were in different batches"
    assert (await rig.stage(bad)).error_code == "internal-error"


@pytest.mark.parametrize("commit", ["late", "unknown"])
async def test_a_claim_whose_job_was_cancelled_meanwhile_is_released(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, commit: str
) -> None:
    requested, unblocked, claim = asyncio.Event(), asyncio.Event(), claims.claim_stages

    async def slow(
        db: Database, requests: Sequence[ClaimRequest], **options: Any
    ) -> list[Claim | ClaimRejected | DatabaseUnavailable]:
        requested.set()
        await unblocked.wait()
        results = await claim(db, requests, **options)
        return [ClaimUnknown(each) if isinstance(each, Claim) and commit == "unknown" else each for each in results]

    monkeypatch.setattr("imago.core.jobs.claims.claim_stages", slow)
    stub = Stub(fails_with(ValueError(), times=0))
    image = await rig.image()
    async with rig.worker(stub):
        await requested.wait()
        # Later than SHUTDOWN_TIMEOUT, so that the job is cancelled before.
        asyncio.get_running_loop().call_later(1.0, unblocked.set)
    row = await rig.stage(image)
    assert (row.status, row.attempts, stub.attempts) == (StageStatus.PENDING, 0, [])


async def test_a_locked_image_does_not_block_other_jobs(rig: Rig) -> None:
    if rig.db.is_sqlite:
        pytest.skip("SQLite locks no rows")
    images = [await make_image(rig.db, rig.client) for _ in range(6)]
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with rig.db.write(SYSTEM) as connection:
            await connection.execute(sa.text(f"SELECT 1 FROM images WHERE id = {images[0].id} FOR UPDATE"))
            held.set()
            await let_go.wait()

    holding = asyncio.create_task(hold())
    await held.wait()
    async with rig.worker(Stub(fails_with(ValueError(), times=0))):
        for image in images:
            rig.eager_publisher.publish_soon(image.outbox)
        for image in images[1:]:
            await rig.ended(image, StageStatus.DONE)
        assert (await rig.stage(images[0])).status is not StageStatus.DONE
        let_go.set()
        await holding
        await rig.ended(images[0], StageStatus.DONE)
