"""The minimal cost of a job: `python -m bench.floor_worker`, only nats-py and two commits.

It pulls ten messages of the exif stage at a time. For each of them it commits that the stage is running, commits that
it is done, and acknowledges the message. There is no fence, lease, result, event, metric or log.
"""

import asyncio
import os
from uuid import UUID

import asyncpg
import nats
import orjson
import uvloop
from nats.aio.msg import Msg

from imago.core.lanes.model import STANDARD
from imago.core.outbox.subjects import work_stream

_AT_ONCE = 10
_STATUS = (
    "UPDATE image_stages SET status = $2 WHERE stage = 'exif' AND image_id = (SELECT id FROM images WHERE uuid = $1)"
)


async def main() -> None:
    """Process messages until the process is killed."""
    pool = await asyncpg.create_pool(os.environ["FLOOR_DATABASE"], min_size=_AT_ONCE, max_size=_AT_ONCE)
    connection = await nats.connect(os.environ["NATS_URL"])
    consumer = await connection.jetstream().pull_subscribe_bind(consumer="exif", stream=work_stream(STANDARD))

    async def work(message: Msg) -> None:
        image = UUID(orjson.loads(message.data)["image"])
        await pool.execute(_STATUS, image, "running")
        await pool.execute(_STATUS, image, "done")
        await message.ack()

    while True:
        try:
            messages = await consumer.fetch(_AT_ONCE, timeout=5)
        except nats.errors.TimeoutError:
            continue
        await asyncio.gather(*map(work, messages))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
