"""Measures the delay from enqueueing a job to its start, in ms: `python -m bench.peer.latency COUNT POLL_DELAY`."""

import asyncio
import json
import sys
import time
from typing import Any

from arq import Worker, create_pool
from arq.connections import RedisSettings

from bench.peer import settings

_PAUSE = 0.01


async def measure(count: int, poll_delay: float) -> list[float]:
    """Enqueue jobs one after the other while a worker runs in the same process."""
    waits: list[float] = []
    all_came = asyncio.Event()

    async def job(_context: dict[str, Any], sent: float) -> None:
        waits.append((time.perf_counter() - sent) * 1000)
        if len(waits) == count:
            all_came.set()

    redis_settings = RedisSettings(port=settings.REDIS_PORT)
    pool = await create_pool(redis_settings, default_queue_name="latency")
    worker = Worker(
        [_named(job)],
        redis_settings=redis_settings,
        queue_name="latency",
        poll_delay=poll_delay,
        handle_signals=False,
        keep_result=0,
    )
    running = asyncio.create_task(worker.async_run())
    await asyncio.sleep(0.5)
    for number in range(count):
        await pool.enqueue_job("job", time.perf_counter(), _job_id=f"latency:{time.time_ns()}:{number}")
        await asyncio.sleep(_PAUSE + 0.007 * (number % 7))
    async with asyncio.timeout(120):
        await all_came.wait()
        # Closing cancels a job that has not recorded its end, and reports that as an error.
        await asyncio.gather(*worker.tasks.values())
    await worker.close()
    running.cancel()
    await pool.aclose()
    return waits


def _named(job: Any) -> Any:
    job.__qualname__ = "job"
    return job


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), float(sys.argv[2])))))
