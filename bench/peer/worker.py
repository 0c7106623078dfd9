"""The peer's worker: `arq bench.peer.worker.WorkerSettings`."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from arq import Retry
from arq.connections import RedisSettings
from sqlalchemy import select, update

from bench.peer import imaging, settings
from bench.peer.tables import Image, Stage, connect


def _nothing(_path: Path) -> dict[str, Any]:
    """Do nothing, to measure the overhead of a job."""
    return {}


_WORK = {"exif": imaging.read_exif, "ocr": imaging.read_text, "vision": imaging.describe, "noop": _nothing}
_COLUMN = {"exif": Image.exif, "ocr": Image.ocr, "vision": Image.ai, "noop": Image.exif}


async def run_stage(context: dict[str, Any], image_id: int, stage: str) -> None:
    """Run a stage of an image: mark it as running, then store the result and mark it as done in one transaction."""
    sessions, tries = context["sessions"], context["job_try"]
    mine = (Stage.image_id == image_id, Stage.stage == stage, Stage.status != "done")
    async with sessions() as session:
        claimed = await session.execute(
            update(Stage)
            .where(*mine)
            .values(status="running", attempts=tries, started_at=datetime.now(UTC))
            .execution_options(synchronize_session=False)
        )
        path = await session.scalar(select(Image.path).where(Image.id == image_id))
        await session.commit()
    if claimed.rowcount != 1 or path is None:
        return
    try:
        work = _WORK[stage]
        result = work(Path(path)) if work is _nothing else await asyncio.to_thread(work, Path(path))
    except Exception as error:
        dead = tries >= settings.MAX_TRIES
        async with sessions() as session:
            await session.execute(
                update(Stage)
                .where(*mine)
                .values(status="dead" if dead else "retrying", error=str(error)[:500])
                .execution_options(synchronize_session=False)
            )
            await session.commit()
        if dead:
            return
        raise Retry(defer=2**tries) from error
    async with sessions() as session:
        ended = await session.execute(
            update(Stage)
            .where(*mine)
            .values(status="done", done_at=datetime.now(UTC))
            .execution_options(synchronize_session=False)
        )
        if ended.rowcount == 1:
            # This locks the image's row, so that of two stages that end concurrently one sees the other.
            await session.execute(
                update(Image)
                .where(Image.id == image_id)
                .values({_COLUMN[stage].key: result, "processing_status": "processing"})
                .execution_options(synchronize_session=False)
            )
            open_stages = select(Stage.stage).where(Stage.image_id == image_id, Stage.status.not_in(("done", "dead")))
            await session.execute(
                update(Image)
                .where(Image.id == image_id, ~open_stages.exists())
                .values(processing_status="done")
                .execution_options(synchronize_session=False)
            )
        await session.commit()


async def startup(context: dict[str, Any]) -> None:
    """Connect to the database."""
    context["engine"], context["sessions"] = connect()


async def shutdown(context: dict[str, Any]) -> None:
    """Close the connections."""
    await context["engine"].dispose()


class WorkerSettings:
    """ARQ's settings."""

    functions: ClassVar = [run_stage]
    redis_settings = RedisSettings(port=settings.REDIS_PORT)
    on_startup = startup
    on_shutdown = shutdown
    max_jobs = settings.MAX_JOBS
    max_tries = settings.MAX_TRIES
    poll_delay = settings.POLL_DELAY
    keep_result = settings.KEEP_RESULT
