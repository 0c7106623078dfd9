"""Open runs of stages that the server has disabled end, and their images are done."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from imago.core.images.changes import reprocess
from imago.core.images.queries import get_stages
from imago.core.images.results import EmbedResult
from imago.core.jobs.claims import Claim, ClaimLost
from imago.core.jobs.completion import StageCompletion, complete_stages
from imago.core.jobs.stages import OPTIONAL_STAGES, ImageStatus, Stage, StageStatus
from imago.core.outbox.work_message import WorkMessage
from imago.db.engine import SYSTEM, Database
from imago.db.tables import image_stages
from imago.maintenance.eager_publisher import EagerPublisher
from imago.maintenance.stage_closer import StageCloser
from imago.nats.connection import NatsConnection
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage

EMBED = EmbedResult("model", "0" * 64, truncated=False, vector=b"\0" * 16)


@pytest.fixture
def closer(db: Database, nats: NatsConnection, eager_publisher: EagerPublisher) -> StageCloser:
    """A closer that doesn't wait for the end of a rollout."""
    return StageCloser(db, nats, eager_publisher, stages_off=OPTIONAL_STAGES, quiet_for=timedelta(0))


async def end_others(db: Database, image_id: int) -> None:
    async with db.write(SYSTEM) as connection:
        await connection.execute(
            sa.update(image_stages)
            .where(image_stages.c.image_id == image_id, image_stages.c.stage != Stage.EMBED)
            .values(status=StageStatus.DONE)
        )


async def test_an_image_is_done_without_a_stage_that_was_switched_off(db: Database, closer: StageCloser) -> None:
    client = await make_client(db)
    image, untouched = await make_image(db, client), await make_image(db, client)
    await reprocess(db, client, image.id, [Stage.EMBED], stages_off=frozenset(), headers={})
    await end_others(db, image.id)
    assert await closer.run_once() == 1
    row, stages = await get_stages(db, client.id, image.id)
    assert (row.status, stages[Stage.EMBED].status) == (ImageStatus.DONE, StageStatus.SKIPPED)
    assert (await get_stages(db, client.id, untouched.id))[0].status == ImageStatus.PENDING
    assert await closer.run_once() == 0


async def test_a_stage_with_an_earlier_result_is_done_and_a_late_worker_loses_its_run(
    db: Database, closer: StageCloser
) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    for run in (1, 2):
        await reprocess(db, client, image.id, [Stage.EMBED], stages_off=frozenset(), headers={})
        message = WorkMessage(image.uuid, client.uuid, Stage.EMBED, run, 1)
        claim = await claim_stage(db, message, lease=timedelta(seconds=30 if run == 1 else -1), max_tries=3)
        assert isinstance(claim, Claim)
        if run == 1:
            await complete_stages(db, [StageCompletion(claim, EMBED, {})])
    assert await closer.run_once() == 1
    assert (await get_stages(db, client.id, image.id))[1][Stage.EMBED].status == StageStatus.DONE
    (late,) = await complete_stages(db, [StageCompletion(claim, EMBED, {})])
    assert isinstance(late, ClaimLost)


async def test_a_young_run_is_left_to_a_process_that_still_has_the_stage(
    db: Database, nats: NatsConnection, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await reprocess(db, client, image.id, [Stage.EMBED], stages_off=frozenset(), headers={})
    assert await StageCloser(db, nats, eager_publisher, stages_off=OPTIONAL_STAGES).run_once() == 0


async def test_any_disabled_stage_ends_and_its_messages_are_deleted(
    db: Database, nats: NatsConnection, eager_publisher: EagerPublisher
) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await nats.js.publish(f"imago.work.standard.ocr.{client.uuid.hex}", b"{}")
    await nats.js.publish(f"imago.work.standard.exif.{client.uuid.hex}", b"{}")
    closer = StageCloser(db, nats, eager_publisher, stages_off=frozenset({Stage.OCR}), quiet_for=timedelta(0))
    assert await closer.run_once() == 1
    stages = (await get_stages(db, client.id, image.id))[1]
    assert (stages[Stage.OCR].status, stages[Stage.EXIF].status) == (StageStatus.SKIPPED, StageStatus.PENDING)
    assert (await nats.js.stream_info("IMAGO_WORK_STANDARD")).state.messages == 1
