"""Enqueues no-op jobs with their rows: `python -m bench.peer.fill COUNT`."""

import asyncio
import sys
from uuid import uuid4

import arq
from arq.connections import RedisSettings
from sqlalchemy import insert, select

from bench.peer import settings
from bench.peer.tables import Image, Stage, connect

_AT_ONCE = 100


async def fill(count: int) -> None:
    """Insert images with one stage each, and enqueue a job per image."""
    engine, sessions = connect()
    rows = [
        {
            "uuid": str(uuid4()),
            "client_id": 1,
            "original_name": "noop",
            "content_type": "image/jpeg",
            "format": "jpeg",
            "width": 1,
            "height": 1,
            "frames": 1,
            "size_bytes": 1,
            "sha256": "0" * 64,
            "path": "noop",
            "thumbnail_path": "noop",
        }
        for _ in range(count)
    ]
    async with sessions() as session:
        await session.execute(insert(Image), rows)
        made = (await session.scalars(select(Image.id).where(Image.uuid.in_([row["uuid"] for row in rows])))).all()
        await session.execute(insert(Stage), [{"image_id": image, "stage": "noop"} for image in made])
        await session.commit()
    await engine.dispose()
    jobs = await arq.create_pool(RedisSettings(port=settings.REDIS_PORT))
    for start in range(0, count, _AT_ONCE):
        await asyncio.gather(
            *(
                jobs.enqueue_job("run_stage", image, "noop", _job_id=f"{image}:noop")
                for image in made[start : start + _AT_ONCE]
            )
        )
    await jobs.aclose()


if __name__ == "__main__":
    asyncio.run(fill(int(sys.argv[1])))
