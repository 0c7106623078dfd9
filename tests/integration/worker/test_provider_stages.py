"""Stages that call a provider: a worker on a real NATS server and PostgreSQL, with a local fake of the provider."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from devtools.nats import NatsServer
from devtools.waiting import until
from imago.ai.factory import Providers, build_providers
from imago.core.ai_usage.ledger import DatabaseLedger, get_ai_usage
from imago.core.ai_usage.model import BUDGET_CODE
from imago.core.clients.audit import Actor
from imago.core.clients.changes import ClientPatch, patch_client
from imago.core.clients.model import Client
from imago.core.images.model import original_key
from imago.core.images.queries import StageRow, get_stages
from imago.core.images.results import OcrResult
from imago.core.jobs.claims import Claim
from imago.core.jobs.failures import Throttled, TransientFailure
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.outbox.work_message import WorkMessage
from imago.core.uploads.model import AcceptedImage
from imago.db.engine import Database
from imago.db.tables import stage_results
from imago.imaging.sandbox.pool import ChildPool
from imago.maintenance.budget_waker import BudgetWaker
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.outbox_relay import OutboxRelay
from imago.nats.breaker_store import SharedBreaker
from imago.nats.connection import NatsConnection
from imago.nats.publisher import Publisher
from imago.nats.streams import StreamOptions, ensure_streams
from imago.objects.local import LocalStore
from imago.settings import Settings
from imago.telemetry.provider_calls import ProviderCalls
from imago.worker.service import Worker
from imago.worker.stages.base import StageHandler, StageTools
from imago.worker.stages.ocr import OcrStage
from imago.worker.stages.vision import VisionStage
from tests.support.images import encoded
from tests.support.pages import ENGLISH, FONT, page
from tests.support.providers import (
    GEMINI_KEY,
    OPENROUTER_KEY,
    VISION,
    FakeProvider,
    blocks,
    fails,
    fake_provider,
    says,
    throttles,
)
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage

pytestmark = pytest.mark.parametrize("db", ["postgresql"], indirect=True)


@dataclass
class Rig:
    """An installation, and the fake provider that its vision worker calls."""

    db: Database
    nats: NatsConnection
    fake: FakeProvider
    settings: Settings
    store: LocalStore
    children: ChildPool
    eager_publisher: EagerPublisher
    client: Client
    folder: Path

    async def image(self, data: bytes | None = None, client: Client | None = None) -> AcceptedImage:
        """Store an image and publish its messages."""
        client = client or self.client
        accepted = await make_image(self.db, client)
        source = self.folder / f"{accepted.uuid}.jpg"
        source.write_bytes(data or encoded())
        await self.store.put(original_key("", client.uuid, accepted.uuid), source, content_type="image/jpeg")
        self.eager_publisher.publish_soon(accepted.outbox)
        return accepted

    async def stage(self, image: AcceptedImage, client: Client | None = None) -> StageRow:
        return (await get_stages(self.db, (client or self.client).id, image.id))[1][Stage.VISION]

    async def reaches(
        self, image: AcceptedImage, status: StageStatus, code: str | None = None, client: Client | None = None
    ) -> StageRow:
        async def there() -> StageRow | None:
            row = await self.stage(image, client)
            return row if (row.status, row.error_code) == (status, code) else None

        row = await until(there, what=f"the stage to be {status} ({code})", timeout=60)
        assert row is not None
        return row

    async def leaves_no_lag(self) -> None:
        async def none() -> bool:
            info = await self.nats.js.consumer_info("IMAGO_WORK_STANDARD", "vision")
            return (info.num_pending, info.num_ack_pending) == (0, 0)

        await until(none, what="no message to count as lag")

    def providers(self, nats: NatsConnection) -> Providers:
        observer = ProviderCalls()
        breaker = SharedBreaker(nats, probe=timedelta(seconds=20), observer=observer)
        return build_providers(self.settings, ledger=DatabaseLedger(self.db), breaker=breaker, observer=observer)

    @asynccontextmanager
    async def worker(self, nats: NatsConnection) -> AsyncIterator[None]:
        """Run a vision worker with a separate connection."""
        providers, stop = self.providers(nats), asyncio.Event()
        stages: dict[Stage, StageHandler] = {
            Stage.VISION: VisionStage(
                StageTools(
                    self.settings,
                    self.store,
                    self.children,
                    vision=providers.vision,
                    recognizer=providers.recognizer(),
                )
            )
        }
        worker = Worker(
            settings=self.settings, db=self.db, nats=nats, outbox_publisher=self.eager_publisher, handlers=stages
        )
        running = asyncio.create_task(worker.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running
            await providers.close()


@pytest.fixture
async def rig(
    db: Database, nats: NatsConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    monkeypatch.setattr("imago.ai.provider_client.MIN_WAIT", timedelta(seconds=1))
    store = LocalStore(tmp_path / "objects", url_secret="secret of signed URLs")
    await asyncio.to_thread(store.prepare)
    children = ChildPool(size=1, memory_mb=2048, cpu_seconds=60)
    publisher = Publisher(nats, timeout=5)
    eager_publisher = EagerPublisher(db, publisher, by="test")
    await eager_publisher.start()
    async with fake_provider() as fake:
        settings = Settings(
            ai_provider="gemini",
            ai_model="some-model",
            gemini_api_key=GEMINI_KEY,
            gemini_base_url=fake.url,
            openrouter_api_key=OPENROUTER_KEY,
            heartbeat=3,
            shutdown_timeout=1,
            ocr_fallback="ai",
            ocr_fallback_confidence=1.0,
        )
        await ensure_streams(nats.js, options=StreamOptions(ack_wait=settings.ack_wait))
        relay = asyncio.create_task(_relaying(OutboxRelay(db, nats, publisher)))
        yield Rig(db, nats, fake, settings, store, children, eager_publisher, await make_client(db), tmp_path)
        relay.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await relay
    await eager_publisher.close()
    await children.close()


async def _relaying(relay: OutboxRelay) -> None:
    while True:
        await relay.run_once()
        await asyncio.sleep(0.2)


async def test_a_throttled_image_is_parked_outside_the_stream_and_retried(rig: Rig) -> None:
    rig.fake.will(throttles(4), says(VISION))
    image = await rig.image()
    async with rig.worker(rig.nats):
        await rig.reaches(image, StageStatus.RETRYING, "provider-throttled")
        await rig.leaves_no_lag()
        assert len(rig.fake.received) == 1
        row = await rig.reaches(image, StageStatus.DONE)
    # The pause did not count as an attempt.
    assert row.attempts == 1
    assert len(rig.fake.received) == 2
    async with rig.db.read() as connection:
        query = sa.select(stage_results.c.data).where(
            stage_results.c.image_id == image.id, stage_results.c.stage == Stage.VISION
        )
        [data] = list(await connection.scalars(query))
    assert data["description"] == VISION["description"]
    assert data["model_used"] == "gemini/gemini-test-001"
    usage = await get_ai_usage(rig.db, rig.client.id)
    assert (usage.calls, usage.input_tokens) == (1, 300)


async def test_two_workers_share_one_breaker(rig: Rig, nats_server: NatsServer) -> None:
    rig.fake.will(throttles(6), says(VISION))
    other = NatsConnection(Settings(nats_url=(nats_server.url,)), name="worker-vision")
    await other.start()
    await other.wait_connected(10)
    first = await rig.image()
    try:
        async with rig.worker(rig.nats):
            await rig.reaches(first, StageStatus.RETRYING, "provider-throttled")
        # The worker that saw the response has stopped, but another one knows the pause.
        async with rig.worker(other):
            second = await rig.image()
            await rig.reaches(second, StageStatus.RETRYING, "provider-paused")
            assert len(rig.fake.received) == 1
            for image in (first, second):
                assert (await rig.reaches(image, StageStatus.DONE)).attempts == 1
    finally:
        await other.close()


async def test_an_outage_of_the_provider_costs_no_attempt(rig: Rig) -> None:
    rig.fake.will(*[fails(503)] * 4, says(VISION))
    images = [await rig.image() for _ in range(2)]
    async with rig.worker(rig.nats):
        for image in images:
            assert (await rig.reaches(image, StageStatus.DONE)).attempts == 1


async def test_a_blocked_image_becomes_a_dead_letter_with_its_own_code(rig: Rig) -> None:
    rig.fake.will(blocks(prompt=False))
    image = await rig.image()
    async with rig.worker(rig.nats):
        row = await rig.reaches(image, StageStatus.DEAD, "safety-block")
    assert row.attempts == 1


async def test_a_stage_beyond_the_budget_is_parked_until_the_limit_is_raised(rig: Rig) -> None:
    client = await make_client(rig.db, "small", ai_calls_per_month=1)
    rig.fake.will(says(VISION))
    async with rig.worker(rig.nats):
        first = await rig.image(client=client)
        await rig.reaches(first, StageStatus.DONE, client=client)
        second = await rig.image(client=client)
        await rig.reaches(second, StageStatus.RETRYING, BUDGET_CODE, client=client)
        await rig.leaves_no_lag()
        budgets = BudgetWaker(rig.settings, rig.db)
        assert await budgets.run_once() == 0
        raised = ClientPatch(limits={"ai_calls_per_month": 2})
        await patch_client(rig.db, client.id, raised, by=Actor("test", None))
        assert await budgets.run_once() == 1
        row = await rig.reaches(second, StageStatus.DONE, client=client)
    assert row.attempts == 1
    assert len(rig.fake.received) == 2


PAGE = {"text": ENGLISH, "language": "en", "confidence": 0.99}


async def read(rig: Rig, *, attempts: int = 1) -> OcrResult:
    """Run the ocr stage on a page that Tesseract can read, with the provider as the second reader."""
    if not FONT.exists():
        pytest.skip("the font DejaVu is not installed (`make setup` installs fonts-dejavu-core)")
    image = await rig.image(encoded("jpeg", page(ENGLISH).convert("RGB")))
    providers = rig.providers(rig.nats)
    stage = OcrStage(StageTools(rig.settings, rig.store, rig.children, ocr=providers.ocr))
    message = WorkMessage(image.uuid, rig.client.uuid, Stage.OCR, 1, 0)
    for _ in range(attempts):
        held = await claim_stage(rig.db, message, lease=timedelta(0), max_tries=9, headers={})
        assert isinstance(held, Claim)
    try:
        with_folder = rig.folder / image.uuid.hex
        with_folder.mkdir()
        result: Any = (await stage.run(held, with_folder)).result
    finally:
        await providers.close()
    assert isinstance(result, OcrResult)
    return result


async def test_the_better_of_two_readings_is_chosen_and_both_are_stored(rig: Rig) -> None:
    rig.fake.will(says(PAGE))
    result = await read(rig)
    assert [reading.engine for reading in result.readings] == ["tesserocr", "gemini/gemini-test-001"]
    assert result.chosen is result.readings[1]
    assert rig.fake.received[0].body["contents"][0]["parts"][1]["inlineData"]
    rig.fake.will(says({**PAGE, "text": "Hm"}))
    result = await read(rig)
    assert (result.chosen.engine, len(result.readings)) == ("tesserocr", 2)


async def test_a_failing_provider_does_not_cost_the_first_reading(rig: Rig) -> None:
    rig.fake.will(blocks(prompt=True))
    assert [reading.engine for reading in (await read(rig)).readings] == ["tesserocr"]
    # A transient failure is retried while attempts are left.
    rig.fake.will(says("no JSON"))
    with pytest.raises(TransientFailure):
        await read(rig)
    assert [reading.engine for reading in (await read(rig, attempts=3)).readings] == ["tesserocr"]
    # A short pause is worth waiting for, a long one is not.
    rig.fake.will(throttles(2))
    with pytest.raises(Throttled):
        await read(rig)
    await asyncio.sleep(2.1)
    rig.fake.will(throttles(3600))
    assert [reading.engine for reading in (await read(rig)).readings] == ["tesserocr"]
