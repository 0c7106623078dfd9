"""A worker with a no-op exif stage, to measure the overhead of a job: `python -m bench.noop_worker`."""

import asyncio
from pathlib import Path

import uvloop

from imago.bootstrap.parts import database, eager_publisher, nats_connection, stop_on_signals
from imago.core.images.results import ExifResult
from imago.core.jobs.claims import Claim
from imago.core.jobs.stages import Stage
from imago.nats.publisher import Publisher
from imago.settings import Settings
from imago.telemetry.logs import configure_logging
from imago.worker.service import Worker
from imago.worker.stages.base import StageOutput


class _Nothing:
    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        return StageOutput(ExifResult())


async def main() -> None:
    """Run until a signal arrives."""
    settings = Settings()
    configure_logging(level=settings.log_level)
    with stop_on_signals() as stop:
        async with (
            database(settings) as db,
            nats_connection(settings, name="worker-exif") as nats,
            eager_publisher(db, Publisher(nats, timeout=settings.nats_timeout), by="worker") as background,
        ):
            await Worker(
                settings=settings, db=db, nats=nats, outbox_publisher=background, handlers={Stage.EXIF: _Nothing()}
            ).run(stop)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
