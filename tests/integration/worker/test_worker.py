"""A worker on a real NATS server and both databases, with stages that do what the test wants."""

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
    """A stage that does what it is told, and remembers each try."""

    behaviour: Behaviour
    tries: list[Claim] = field(default_factory=list)

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        assert directory.is_dir()
        self.tries.append(claim)
        await self.behaviour(claim)
        return StageOutput(ExifResult())


@dataclass
class Rig:
    """What a test works with."""

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

    async def stage(self, image: AcceptedImage) -> StageRow:
        return (await get_stages(self.db, self.client.id, image.id))[1][Stage.EXIF]

    async def ended(self, image: AcceptedImage, status: StageStatus) -> StageRow:
        async def reached() -> StageRow | None:
            row = await self.stage(image)
            return row if row.status is status else None

        row = await until(reached, what=f"the stage to be {status}")
        assert row is not None
        return row

    @asynccontextmanager
    async def worker(self, stub: Stub) -> AsyncIterator[None]:
        stop = asyncio.Event()
        worker = Worker(
            settings=self.settings,
            db=self.db,
            nats=self.nats,
            outbox_publisher=self.eager_publisher,
            handlers={Stage.EXIF: stub},
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
    assert len(stub.tries) == 1
    info = await rig.nats.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
    assert (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_a_failure_that_passes_is_tried_again_until_it_works(rig: Rig) -> None:
    stub = Stub(fails_with(TransientFailure("x", "y"), times=2))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert (row.attempts, row.error_code) == (3, None)


@pytest.mark.parametrize(
    ("error", "code", "tries"),
    [
        (PermanentFailure("bad-image", "Bad."), "bad-image", 1),
        (TransientFailure("child-died", "Died."), "child-died", 3),
        (RuntimeError("a bug"), "internal-error", 3),
        (ObjectMissing("gone"), "original-missing", 1),
    ],
)
async def test_a_poison_image_takes_exactly_its_tries(rig: Rig, error: Exception, code: str, tries: int) -> None:
    stub = Stub(fails_with(error))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DEAD)
    assert (row.error_code, row.attempts, len(stub.tries)) == (code, tries, tries)
    assert "a bug" not in (row.error_text or "")


@pytest.mark.parametrize(
    "trouble",
    [
        StorageUnavailable("away"),
        OSError(errno.ENOSPC, "No space left on device"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
    ids=["storage away", "no room on the worker", "no process on the worker"],
)
async def test_trouble_of_ours_burns_no_try(rig: Rig, monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    monkeypatch.setattr("imago.worker.runner.REDELIVERY_DELAY", timedelta(seconds=0.05))
    stub = Stub(fails_with(trouble, times=5))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert (row.attempts, len(stub.tries)) == (1, 6)


async def test_a_claim_whose_answer_was_lost_burns_no_try(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imago.worker.runner.REDELIVERY_DELAY", timedelta(seconds=0.05))
    write, lost = rig.db.write, []

    @asynccontextmanager
    async def lose_the_first_answer(scope: RowScope = SYSTEM) -> AsyncIterator[AsyncConnection]:
        async with write(scope) as connection:
            yield connection
        if not lost:
            lost.append(scope)
            raise DatabaseUnavailable("committed, and nobody was told")

    stub = Stub(fails_with(ValueError(), times=0))
    image = await rig.image()
    monkeypatch.setattr(rig.db, "write", lose_the_first_answer)
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert lost
    assert (row.attempts, len(stub.tries)) == (1, 1)


async def test_a_database_away_for_longer_than_a_lease_burns_no_try(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imago.worker.runner.REDELIVERY_DELAY", timedelta(seconds=0.05))
    loop, release = asyncio.get_running_loop(), claims.release_claim
    back_at = loop.time() + 1.5 * rig.settings.ack_wait

    async def away_until_then(*args: Any, **options: Any) -> Any:
        if loop.time() < back_at:
            raise DatabaseUnavailable("away")
        return await release(*args, **options)

    async def renewed_in_vain(*_: object, **__: object) -> bool:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr("imago.core.jobs.claims.release_claim", away_until_then)
    monkeypatch.setattr("imago.core.jobs.claims.extend_claim", renewed_in_vain)
    stub = Stub(fails_with(DatabaseUnavailable("away"), times=1))
    image = await rig.image()
    async with rig.worker(stub):
        row = await rig.ended(image, StageStatus.DONE)
    assert (row.attempts, len(stub.tries)) == (1, 2)


async def test_a_throttled_try_leaves_the_stream_and_comes_back_when_it_is_due(rig: Rig) -> None:
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


async def test_stopping_gives_a_running_try_back_uncounted(rig: Rig) -> None:
    begun = asyncio.Event()

    async def hang(_claim: Claim) -> None:
        begun.set()
        await asyncio.sleep(60)

    image = await rig.image()
    async with rig.worker(Stub(hang)):
        await begun.wait()
    row = await rig.stage(image)
    assert (row.status, row.attempts) == (StageStatus.PENDING, 0)
    async with rig.worker(Stub(fails_with(ValueError(), times=0))):
        assert (await rig.ended(image, StageStatus.DONE)).attempts == 1


async def test_a_long_stage_is_worked_on_by_one_worker_alone(rig: Rig) -> None:
    async def slow(_claim: Claim) -> None:
        await asyncio.sleep(3 * rig.settings.ack_wait)

    first, second = Stub(slow), Stub(slow)
    image = await rig.image()
    async with rig.worker(first), rig.worker(second):
        await rig.ended(image, StageStatus.DONE)
    assert len(first.tries) + len(second.tries) == 1


async def never(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


async def test_a_database_that_hangs_gives_no_message_to_another_worker(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The lease ends, but what says that the work goes on is the message's own heartbeat.
    monkeypatch.setattr("imago.core.jobs.claims.extend_claim", never)

    async def slow(_claim: Claim) -> None:
        await asyncio.sleep(2.5 * rig.settings.ack_wait)

    first, second = Stub(slow), Stub(slow)
    image = await rig.image()
    async with rig.worker(first), rig.worker(second):
        assert (await rig.ended(image, StageStatus.DONE)).attempts == 1
    assert len(first.tries) + len(second.tries) == 1


async def test_a_worker_never_takes_its_own_work_over(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a process that gets too little of the machine: no heartbeat of either kind comes in time.
    monkeypatch.setattr("imago.core.jobs.claims.extend_claim", never)
    monkeypatch.setattr("imago.nats.consumer.Delivery.in_progress", never)

    async def slow(_claim: Claim) -> None:
        await asyncio.sleep(2.5 * rig.settings.ack_wait)

    stub = Stub(slow)
    image = await rig.image()
    async with rig.worker(stub):
        assert (await rig.ended(image, StageStatus.DONE)).attempts == 1
    assert len(stub.tries) == 1


async def test_a_reprocess_under_way_fences_the_old_run_out(rig: Rig) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait_once(claim: Claim) -> None:
        if claim.run == 1:
            begun.set()
            await go_on.wait()

    stub = Stub(wait_once)
    image = await rig.image()
    async with rig.worker(stub):
        await begun.wait()
        rows = await reprocess(rig.db, rig.client, image.id, [Stage.EXIF], stages_off=frozenset(), headers={})
        rig.eager_publisher.publish_soon(rows)
        await rig.ended(image, StageStatus.DONE)
        go_on.set()
    async with rig.db.read() as connection:
        query = sa.select(stage_results.c.run).where(stage_results.c.image_id == image.id)
        assert list(await connection.scalars(query)) == [2]


async def test_an_image_deleted_while_in_work_stays_deleted(rig: Rig) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_claim: Claim) -> None:
        begun.set()
        await go_on.wait()

    image = await rig.image()
    async with rig.worker(Stub(wait)):
        await begun.wait()
        await delete_image(rig.db, rig.client, image.id, headers={})
        go_on.set()

        async def settled() -> bool:
            info = await rig.nats.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
            return info.num_ack_pending == 0 and info.num_pending == 0

        await until(settled, what="the message to be settled")
    async with rig.db.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(stage_results)) == 0


async def test_a_message_that_cant_be_read_is_put_away(rig: Rig) -> None:
    await rig.nats.js.publish("imago.work.standard.exif.0", b"\xff not json")
    image = await rig.image()
    async with rig.worker(Stub(fails_with(ValueError(), times=0))):
        await rig.ended(image, StageStatus.DONE)

        async def empty() -> bool:
            info = await rig.nats.js.consumer_info("IMAGO_WORK_STANDARD", "exif")
            return info.num_ack_pending == 0

        await until(empty, what="the unreadable message to be terminated")


async def test_a_result_that_cannot_be_stored_takes_no_other_of_its_batch_along(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, all_there, tries = asyncio.Event(), [0], []
    store = completion.complete_stages

    async def one_is_bad(db: Database, finished: Sequence[StageCompletion]) -> list[StageEnded | ClaimLost]:
        tries.append(len(finished))
        if any(each.claim.image.id == bad.id for each in finished):
            raise ValueError("no database takes this")
        return await store(db, finished)

    async def end_together(_claim: Claim) -> None:
        all_there[0] += 1
        if all_there[0] == 4:
            together.set()
        await together.wait()

    monkeypatch.setattr("imago.core.jobs.completion.complete_stages", one_is_bad)
    images = [await rig.image() for _ in range(4)]
    bad = images[2]
    async with rig.worker(Stub(end_together)):
        for image in images:
            await rig.ended(image, StageStatus.DEAD if image is bad else StageStatus.DONE)
    assert max(tries) > 1, "they were not stored together, so nothing was shown"
    assert (await rig.stage(bad)).error_code == "internal-error"


@pytest.mark.parametrize("answer", ["late", "lost"])
async def test_a_claim_whose_job_was_cancelled_meanwhile_is_given_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    asked, let_go, claim = asyncio.Event(), asyncio.Event(), claims.claim_stages

    async def slow(
        db: Database, wanted: Sequence[ClaimRequest], **options: Any
    ) -> list[Claim | ClaimRejected | DatabaseUnavailable]:
        asked.set()
        await let_go.wait()
        claimed = await claim(db, wanted, **options)
        return [ClaimUnknown(each) if isinstance(each, Claim) and answer == "lost" else each for each in claimed]

    monkeypatch.setattr("imago.core.jobs.claims.claim_stages", slow)
    stub = Stub(fails_with(ValueError(), times=0))
    image = await rig.image()
    async with rig.worker(stub):
        await asked.wait()
        # Longer than SHUTDOWN_TIMEOUT after the worker was told to stop, so that the job is cancelled meanwhile.
        asyncio.get_running_loop().call_later(1.0, let_go.set)
    row = await rig.stage(image)
    assert (row.status, row.attempts, stub.tries) == (StageStatus.PENDING, 0, [])


async def test_one_locked_image_holds_up_no_other_job(rig: Rig) -> None:
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
