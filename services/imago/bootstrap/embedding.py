"""The operator's embedding model in a process: its checks at the start, and queries in an API process."""

import asyncio
import importlib.util
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from PIL import Image

from imago.core.images.search.query_embedding import QueryEmbedding
from imago.core.jobs.failures import StageFailure
from imago.core.jobs.stages import Stage
from imago.embedding.images import EMBED_IMAGE_FUNCTION, EMBED_IMAGE_TASK
from imago.embedding.model import TEXTUAL, TOKENIZER, VISUAL, EmbeddingModel, load_model
from imago.embedding.queries import EMBED_SECONDS, READERS, EmbeddedQueries
from imago.embedding.texts import EMBED_TEXTS_FUNCTION, EMBED_TEXTS_TASK
from imago.imaging.sandbox.pool import ChildPool
from imago.runtime.cancellation import end_tasks
from imago.runtime.startup import StartupError
from imago.settings import Settings
from imago.telemetry.query_readings import reading_observer

log = structlog.get_logger(__name__)


@asynccontextmanager
async def query_embedding(settings: Settings) -> AsyncIterator[QueryEmbedding | None]:
    """Provide the embeddings of queries, or None where they are off; raise StartupError."""
    if settings.search_by_meaning is False or Stage.EMBED in settings.stages_off:
        yield None
        return
    model = await _load(settings, (TEXTUAL, TOKENIZER), packages=("numpy", "onnxruntime", "tokenizers"))
    async with embedding_children(settings, model, size=READERS) as children:
        queries = EmbeddedQueries(children, model, observe=reading_observer("embedding"))
        try:
            await queries.embed(["a"])
        except StageFailure as failure:
            raise _unusable(failure) from None
        preparing = asyncio.create_task(_prepare(queries), name="embedding-background")
        try:
            yield queries
        finally:
            await end_tasks(preparing)


@asynccontextmanager
async def image_embedding(settings: Settings) -> AsyncIterator[tuple[EmbeddingModel, ChildPool]]:
    """Provide the model and the child processes that embed images; raise StartupError."""
    model = await _load(settings, (VISUAL,), packages=("numpy", "onnxruntime"))
    async with embedding_children(settings, model, size=settings.children) as children:
        await _try_image(children, model)
        yield model, children


async def check_embedding(settings: Settings) -> None:
    """Try both parts of the model if there is one; raise StartupError."""
    if Stage.EMBED in settings.stages_off:
        return
    async with image_embedding(settings), query_embedding(settings):
        pass


@asynccontextmanager
async def embedding_children(settings: Settings, model: EmbeddingModel, *, size: int) -> AsyncIterator[ChildPool]:
    """Provide child processes that have the tasks of the model and may read its directory."""
    tasks = {EMBED_IMAGE_TASK: EMBED_IMAGE_FUNCTION, EMBED_TEXTS_TASK: EMBED_TEXTS_FUNCTION}
    children = ChildPool(
        size=size,
        memory_mb=settings.embed_memory_mb,
        cpu_seconds=settings.child_cpu_seconds,
        extra_tasks=tuple(f"{name}={function}" for name, function in tasks.items()),
        readable=(model.directory,),
    )
    try:
        yield children
    finally:
        await children.close()


async def _load(settings: Settings, checked: Sequence[str], *, packages: Sequence[str]) -> EmbeddingModel:
    if settings.embed_model_dir is None:
        raise StartupError("EMBED_MODEL_DIR is not set")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise StartupError(f"EMBED_MODEL_DIR needs the extra `embed` ({missing[0]} is missing)")
    return await asyncio.to_thread(load_model, settings.embed_model_dir, checked=checked)


async def _try_image(children: ChildPool, model: EmbeddingModel) -> None:
    with tempfile.TemporaryDirectory(prefix="imago-") as directory:
        source = Path(directory) / "gray.png"
        Image.new("RGB", (32, 32), "gray").save(source)
        try:
            await children.run(
                EMBED_IMAGE_TASK,
                {"model": model.arguments(), "max_pixels": 32 * 32},
                timeout=EMBED_SECONDS,
                reads={"source": source},
            )
        except StageFailure as failure:
            raise _unusable(failure) from None


async def _prepare(queries: EmbeddedQueries) -> None:
    """Embed the background; until then, searches do without embeddings."""
    try:
        await queries.prepare()
    except (StageFailure, OSError) as error:
        log.warning("search.embedding-unavailable", error=type(error).__name__)


def _unusable(failure: StageFailure) -> StartupError:
    return StartupError(f"EMBED_MODEL_DIR: {failure.text}")
