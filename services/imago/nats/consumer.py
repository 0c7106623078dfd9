"""The pull loop of a worker: messages of several stages and lanes, as many at once as there are job slots.

Each pair of stage and lane is polled by a task of its own that holds at most one message; the slots are given to the
held messages by the rules of the lanes, so premium is served first although no message can be put back into a poll.
While it waits for a slot, a held message is kept from being delivered again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext

from imago.cancellation import end_tasks
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import is_dedicated
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.core.outbox.subjects import work_stream
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.job_slots import JobSlots
from imago.nats.streams import existing_lanes

log = structlog.get_logger(__name__)

# How long one poll lingers at the server. Stopping waits for the polls that are out, so it is short; idle polling
# costs one request per source in this time.
POLL_SECONDS = 2.0

# A poll that hasn't returned after this many of its own timeouts is stuck (nats.py #933, #986): bind again.
WATCHDOG_POLLS = 3
# After this many times of that in a row the process is no use: it exits and is started anew.
WATCHDOG_STRIKES = 3

# A consumer that is missing, or a server that is away, is asked for again after this.
REBIND_SECONDS = 1.0

# With `*` in WORKER_LANES: how often new clients' lanes are looked for.
DISCOVERY_SECONDS = 10.0


class ConsumerStalled(Exception):
    """Polls stopped returning, and binding again did not help."""


@dataclass
class Delivery:
    """A message in a worker's hands; exactly one of `ack`, `nak` and `term` settles it."""

    stage: Stage
    lane: str
    message: Msg
    settled: bool = False

    @property
    def data(self) -> bytes:
        """The payload."""
        return self.message.data

    @property
    def headers(self) -> dict[str, str]:
        """The message's headers, the trace context among them."""
        return dict(self.message.headers or {})

    @property
    def deliveries(self) -> int:
        """How often the message was delivered, this time included."""
        return self.message.metadata.num_delivered

    async def ack(self) -> None:
        """Say that the message is done with."""
        await self._settle(self.message.ack)

    async def nak(self, delay: timedelta = timedelta(0)) -> None:
        """Ask for the message again after a delay."""
        seconds = max(delay.total_seconds(), 0.0)
        await self._settle(lambda: self.message.nak(delay=seconds or None))

    async def term(self) -> None:
        """Say that the message can never be worked on."""
        await self._settle(self.message.term)

    async def in_progress(self) -> None:
        """Say that the work goes on, so that the message isn't delivered again."""
        if not self.settled:
            with contextlib.suppress(NatsError, OSError):
                await self.message.in_progress()

    async def _settle(self, send: Callable[[], Awaitable[None]]) -> None:
        if self.settled:
            return
        self.settled = True
        try:
            await send()
        except (NatsError, OSError) as error:
            # Harmless: it comes again, and the database says that it is done.
            log.info("could not settle a message", stage=self.stage, error=type(error).__name__)


Handler = Callable[[Delivery], Awaitable[None]]


class WorkConsumer:
    """Pulls the messages of a worker's stages from its lanes and hands them to `handler`, until it is stopped.

    `handler` settles the delivery; an exception it lets through is logged and the message comes again.
    """

    def __init__(
        self,
        nats: NatsConnection,
        *,
        stages: Sequence[Stage],
        lanes: WorkerLanes,
        max_jobs: int,
        heartbeat: float,
        handler: Handler,
    ) -> None:
        self._nats = nats
        self._stages = tuple(stages)
        self._lanes = lanes
        self._heartbeat = heartbeat
        self._handler = handler
        self.slots = JobSlots(max_jobs)
        self._sources: dict[tuple[Stage, str], asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()

    def pause(self) -> None:
        """Stop pulling for now: the database is away, and every claim would fail."""
        self._going.clear()

    def resume(self) -> None:
        """Pull again."""
        self._going.set()

    async def run(self) -> None:
        """Pull and work until `stop`; raise ConsumerStalled where pulling doesn't work any more."""
        for lane in self._lanes.named:
            self._add_lane(lane)
        helpers: list[asyncio.Task[object]] = [asyncio.create_task(self._stopping.wait())]
        if self._lanes.any_dedicated:
            helpers.append(asyncio.create_task(self._discover()))
        try:
            while not self._stopping.is_set():
                watched: list[asyncio.Task[object]] = [*self._sources.values(), *helpers]
                done, _ = await asyncio.wait(watched, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    # A source only ends by itself with an error.
                    task.result()
        finally:
            self._stopping.set()
            self._going.set()
            await end_tasks(*helpers)
            # The polls that are out are waited for, because what one of them gets must be given back.
            await asyncio.gather(*self._sources.values(), return_exceptions=True)

    async def stop(self, *, grace: float) -> None:
        """Stop pulling, give running jobs `grace` seconds to end, and cancel those that are left."""
        self._stopping.set()
        self._going.set()
        if self._jobs:
            _, late = await asyncio.wait(self._jobs, timeout=grace)
            for job in late:
                job.cancel()
            if late:
                await asyncio.wait(late)

    def _add_lane(self, lane: str) -> None:
        for stage in self._stages:
            if (stage, lane) not in self._sources:
                self._sources[stage, lane] = asyncio.create_task(self._serve(stage, lane), name=f"pull-{stage}-{lane}")

    async def _discover(self) -> None:
        while True:
            with contextlib.suppress(NatsError, OSError, NatsUnavailable):
                for lane in await existing_lanes(self._nats.js):
                    if is_dedicated(lane):
                        self._add_lane(lane)
            await asyncio.sleep(DISCOVERY_SECONDS)

    async def _serve(self, stage: Stage, lane: str) -> None:
        strikes = 0
        while not self._stopping.is_set():
            subscription: JetStreamContext.PullSubscription | None = None
            try:
                await self._nats.wait_connected(POLL_SECONDS)
                subscription = await self._nats.js.pull_subscribe_bind(consumer=stage, stream=work_stream(lane))
                while not self._stopping.is_set():
                    await self._going.wait()
                    await self._pull(subscription, stage, lane)
                    strikes = 0
            except _Stuck:
                strikes += 1
                log.warning("a poll did not return, binding again", stage=stage, lane=lane, strikes=strikes)
                if strikes >= WATCHDOG_STRIKES:
                    raise ConsumerStalled(f"{stage} on {lane}") from None
            except (NatsError, OSError, NatsUnavailable) as error:
                log.info("can't pull, trying again", stage=stage, lane=lane, error=type(error).__name__)
                await self._rest(REBIND_SECONDS)
            finally:
                if subscription is not None:
                    with contextlib.suppress(NatsError, OSError):
                        await subscription.unsubscribe()

    async def _pull(self, subscription: JetStreamContext.PullSubscription, stage: Stage, lane: str) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS * WATCHDOG_POLLS):
                messages = await subscription.fetch(1, timeout=POLL_SECONDS)
        except NatsTimeout:
            # Nothing there. The library's TimeoutError is also asyncio's, so it must be told apart by its own type.
            return
        except TimeoutError as error:
            raise _Stuck from error
        for message in messages:
            await self._take(Delivery(stage, lane, message))

    async def _take(self, delivery: Delivery) -> None:
        if self._stopping.is_set() or not self._going.is_set():
            await delivery.nak()
            return
        keeping = asyncio.create_task(self._keep(delivery))
        try:
            await self.slots.acquire(delivery.lane)
        finally:
            keeping.cancel()
        if self._stopping.is_set():
            self.slots.release()
            await delivery.nak()
            return
        job = asyncio.create_task(self._work(delivery))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _keep(self, delivery: Delivery) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            await delivery.in_progress()

    async def _work(self, delivery: Delivery) -> None:
        try:
            await self._handler(delivery)
        except asyncio.CancelledError:
            await delivery.nak()
            raise
        except Exception:
            log.exception("a job failed outside its stage", stage=delivery.stage, lane=delivery.lane)
            await delivery.nak(timedelta(seconds=REBIND_SECONDS))
        finally:
            self.slots.release()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


class _Stuck(Exception):
    """A poll did not return in several of its timeouts."""
