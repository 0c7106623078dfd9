"""An operator's model from the image to the search, in sandboxed child processes, on both databases."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image

from devtools.waiting import until
from imago.bootstrap.embedding import check_embedding, image_embedding, query_embedding
from imago.core.clients.model import Client
from imago.core.images.changes import delete_image, reprocess
from imago.core.images.lists.filters import ImageFilter
from imago.core.images.model import original_key
from imago.core.images.queries import get_stages
from imago.core.images.search.pages import ImageSearch, SearchPage
from imago.core.images.search.query_embedding import QueryEmbedding
from imago.core.images.search.query_meaning import WeightedConcept
from imago.core.jobs.claims import Claim
from imago.core.jobs.completion import StageCompletion, complete_stages
from imago.core.jobs.stages import ImageStatus, Stage, StageStatus
from imago.core.outbox.work_message import WorkMessage
from imago.core.reprocessing.model import Selection
from imago.core.reprocessing.selecting import matching, stages_to_run
from imago.core.times import utc_now
from imago.core.uploads.model import AcceptedImage
from imago.db.engine import SYSTEM, Database
from imago.db.tables import image_concepts, image_embeddings
from imago.objects.local import LocalStore
from imago.runtime.startup import StartupError
from imago.settings import Settings
from imago.worker.stages.base import StageTools
from imago.worker.stages.embed import EmbedStage
from tests.support.embedding_model import write_model
from tests.support.samples import make_client, make_image
from tests.support.work import claim_stage


def settings_of(directory: Path) -> Settings:
    return Settings(embed_model_dir=directory, worker_processes=1)


@asynccontextmanager
async def queries(settings: Settings) -> AsyncIterator[QueryEmbedding]:
    """Provide embeddings of queries, once the background is embedded."""
    async with query_embedding(settings) as found:
        assert found is not None

        async def ready() -> bool:
            return await found.vector("red", client_id=1) is not None

        await until(ready, what="the background to be embedded", timeout=60)
        yield found


async def embed(
    db: Database, client: Client, settings: Settings, colours: dict[str, AcceptedImage], folder: Path, *, run: int = 2
) -> None:
    """Run the stage for images of one colour, as a worker does."""
    store = LocalStore(folder / "objects", url_secret="secret")
    store.prepare()
    async with image_embedding(settings) as (model, children):
        stage = EmbedStage(StageTools(settings, store, children, embedding=model))
        for colour, image in colours.items():
            Image.new("RGB", (40, 30), colour).save(folder / "image.png")
            await store.put(original_key("", client.uuid, image.uuid), folder / "image.png", content_type="image/png")
            await reprocess(db, client, image.id, [Stage.EMBED], stages_off=frozenset(), headers={})
            message = WorkMessage(image.uuid, client.uuid, Stage.EMBED, run, 1)
            claim = await claim_stage(db, message, lease=timedelta(seconds=30), max_tries=3)
            assert isinstance(claim, Claim)
            output = await stage.run(claim, folder)
            await complete_stages(db, [StageCompletion(claim, output.result, {})])


async def search(db: Database, client: Client, q: str, embedding: QueryEmbedding, meaning: "_Cars") -> SearchPage:
    return await ImageSearch(db, meaning, embedding).page(client.id, ImageFilter(q=q), limit=10)


class _Cars:
    """Finds that every query is about the concept 7."""

    async def concepts(self, query: str, *, client_id: int) -> list[WeightedConcept]:
        return [WeightedConcept(7, 1000)]


async def test_images_are_found_by_their_embeddings_and_others_by_their_concepts(db: Database, tmp_path: Path) -> None:
    client, settings = await make_client(db), settings_of(write_model(tmp_path / "model"))
    images = {name: await make_image(db, client, name=f"{name}.png") for name in ("red", "blue", "car")}
    await embed(db, client, settings, {name: images[name] for name in ("red", "blue")}, tmp_path, run=1)
    async with db.write(SYSTEM) as connection:
        for image in images.values():
            await connection.execute(
                sa.insert(image_concepts).values(image_id=image.id, client_id=client.id, concept=7, score=0.5)
            )
    async with queries(settings) as embedding:
        page = await search(db, client, "scarlet or RED", embedding, _Cars())
        assert [hit.image_id for hit in page.hits] == [images["red"].id, images["car"].id]
        page = await search(db, client, "zzyzx", embedding, _Cars())
        assert [hit.image_id for hit in page.hits] == [images["car"].id], "nonsense is near no embedding"
        other = await make_client(db, "another")
        assert not (await search(db, other, "red", embedding, _Cars())).hits


async def test_embeddings_of_another_model_are_not_compared_and_a_new_run_replaces_them(
    db: Database, tmp_path: Path
) -> None:
    client = await make_client(db)
    image = await make_image(db, client, name="photo.png")
    await embed(db, client, settings_of(write_model(tmp_path / "old", image_side=16)), {"red": image}, tmp_path, run=1)
    settings = settings_of(write_model(tmp_path / "new", image_fit="crop"))
    async with queries(settings) as embedding:
        search_red = ImageSearch(db, None, embedding)
        assert not (await search_red.page(client.id, ImageFilter(q="red"), limit=10)).hits
        await embed(db, client, settings, {"red": image}, tmp_path)
        assert (await search_red.page(client.id, ImageFilter(q="red"), limit=10)).hits[0].image_id == image.id
    await delete_image(db, client, image.id, headers={})
    async with db.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(image_embeddings)) == 0


async def test_an_image_of_before_gets_the_stage_by_a_reprocess(db: Database, tmp_path: Path) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    assert Stage.EMBED not in (await get_stages(db, client.id, image.id))[1]
    await reprocess(db, client, image.id, [Stage.EMBED], stages_off=frozenset(), headers={})
    row, stages = await get_stages(db, client.id, image.id)
    assert (stages[Stage.EMBED].status, stages[Stage.EMBED].run) == (StageStatus.PENDING, 1)
    assert row.status == ImageStatus.PENDING


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"dims": 9}, "visual.onnx: config.json has 9 dims"),
        ({"image_side": 32}, "visual.onnx:"),
    ],
)
async def test_a_model_of_another_shape_stops_the_start(tmp_path: Path, config: dict[str, int], reason: str) -> None:
    with pytest.raises(StartupError, match=rf"^EMBED_MODEL_DIR: {reason}[^\n]*$"):
        await check_embedding(settings_of(write_model(tmp_path, **config)))


async def test_a_file_that_is_no_model_stops_the_start(tmp_path: Path) -> None:
    config = json.loads((write_model(tmp_path) / "config.json").read_text())
    (tmp_path / "textual.onnx").write_bytes(b"no model")
    config["sha256"]["textual.onnx"] = hashlib.sha256(b"no model").hexdigest()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(StartupError, match=r"^EMBED_MODEL_DIR: textual.onnx: [^\n]+$"):
        await check_embedding(settings_of(tmp_path))


async def test_a_reprocess_job_adds_the_stage_to_images_of_before_once(db: Database) -> None:
    client = await make_client(db)
    image = await make_image(db, client)
    wanted = await matching(db, Selection(stages=(Stage.EMBED,)), since=utc_now())
    async with db.read(SYSTEM) as connection:
        assert await stages_to_run(connection, wanted, image.id) == [Stage.EMBED]
    await reprocess(db, client, image.id, [Stage.EMBED], stages_off=frozenset(), headers={})
    async with db.read(SYSTEM) as connection:
        assert await stages_to_run(connection, wanted, image.id) == []
