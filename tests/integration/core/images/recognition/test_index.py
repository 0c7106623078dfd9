"""The concepts and features that the vision stage stores with its result."""

from datetime import timedelta

import sqlalchemy as sa

from imago.core.clients.model import Client
from imago.core.images.changes import delete_image, reprocess
from imago.core.images.recognition.model import ConceptScore, Features, Recognition
from imago.core.images.results import VisionResult
from imago.core.jobs.claims import Claim
from imago.core.jobs.completion import StageCompletion, complete_stages
from imago.core.jobs.stages import Stage
from imago.core.outbox.work_message import WorkMessage
from imago.core.uploads.model import AcceptedImage
from imago.db.engine import Database
from imago.db.tables import image_concepts, image_features
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage

RESULT = VisionResult("A cat.", ("cat",), 0.9, "offline/test")


def recognition(*concepts: tuple[int, float], model: str = "first") -> Recognition:
    scores = tuple(ConceptScore(*concept) for concept in concepts)
    return Recognition("offline/test", (), (), 0.9, scores, Features(model, bytes(128)))


async def complete_vision(
    db: Database, client: Client, image: AcceptedImage, found: Recognition | None, *, run: int = 1
) -> None:
    message = WorkMessage(image.uuid, client.uuid, Stage.VISION, run, 1)
    claim = await claim_stage(db, message, lease=timedelta(seconds=30), max_tries=3)
    assert isinstance(claim, Claim)
    (ended,) = await complete_stages(db, [StageCompletion(claim, RESULT, {}, recognition=found)])
    assert not isinstance(ended, Exception)


async def stored(db: Database) -> tuple[dict[tuple[int, int], float], dict[int, str]]:
    """Return all scores by image and concept, and all models of features by image."""
    async with db.read() as connection:
        concepts = (await connection.execute(sa.select(image_concepts))).all()
        features = (await connection.execute(sa.select(image_features))).all()
    assert all(len(row.vector) == 128 for row in features)
    return {(row.image_id, row.concept): round(row.score, 4) for row in concepts}, {
        row.image_id: row.model for row in features
    }


async def test_each_run_replaces_what_the_run_before_found(db: Database) -> None:
    client = await make_client(db)
    image, other = await make_image(db, client), await make_image(db, client)
    await complete_vision(db, client, image, recognition((1109, 0.8), (281, 0.5)))
    await complete_vision(db, client, other, recognition((1000, 0.25)))
    await reprocess(db, client, image.id, [Stage.VISION], stages_off=frozenset(), headers={})
    await complete_vision(db, client, image, recognition((1108, 0.7), model="second"), run=2)
    assert await stored(db) == (
        {(image.id, 1108): 0.7, (other.id, 1000): 0.25},
        {image.id: "second", other.id: "first"},
    )


async def test_a_run_without_a_recognition_keeps_the_one_before(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await complete_vision(db, client, image, recognition((281, 0.5)))
    await reprocess(db, client, image.id, [Stage.VISION], stages_off=frozenset(), headers={})
    await complete_vision(db, client, image, None, run=2)
    assert await stored(db) == ({(image.id, 281): 0.5}, {image.id: "first"})


async def test_what_was_found_is_deleted_with_the_image(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    await complete_vision(db, client, image, recognition((281, 0.5)))
    await delete_image(db, client, image.id, headers={})
    assert await stored(db) == ({}, {})
