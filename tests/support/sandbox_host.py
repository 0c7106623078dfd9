"""A process with a secret in its environment that runs hostile tasks in a pool, as a worker does."""

import asyncio
import json
import os
import sys

from imago.imaging.sandbox.pool import ChildPool
from tests.support import hostile

TASKS = ("try_everything", "errors_of_dangerous_calls", "thread_and_limits")


async def main(arguments: dict[str, object]) -> None:
    extra = tuple(f"{name}=tests.support.hostile:{name}" for name in TASKS)
    pool = ChildPool(size=1, memory_mb=512, cpu_seconds=30, extra_tasks=extra)
    try:
        results = {
            "reached": await pool.run("try_everything", {**arguments, "parent": os.getpid()}, timeout=60),
            "errors": await pool.run("errors_of_dangerous_calls", {}, timeout=60),
            "allowed": await pool.run("thread_and_limits", {}, timeout=60),
        }
    finally:
        await pool.close()
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    assert hostile.SECRET in os.environ.values()
    asyncio.run(main(json.loads(sys.argv[1])))
