"""A worker's pull loop: fetches messages of several stages and lanes, and runs as many as there are job slots.

Each pair of stage and lane has its own polling task, which holds at most one message. A free slot goes to one of the
held messages by the rules of the lanes, so premium is served first although a fetched message can't be put back.
While a message waits for its slot, progress reports keep JetStream from redelivering it.
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

from imago.core.jobs.stages import Stage
from imago.core.lanes.model import is_dedicated
from imago.core.lanes.worker_lanes import WorkerLanes
from imago.core.outbox.subjects import work_stream
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.job_slots import JobSlots
from imago.nats.streams import existing_lanes
from imago.runtime.cancellation import end_tasks

log = structlog.get_logger(__name__)

# How long a poll waits at the server. Short, because `stop` waits for open polls; an idle poller sends one request in
# this time.
POLL_SECONDS = 2.0

# A poll that does not return within this many of its timeouts is stuck (nats.py #933, #986): subscribe again.
STUCK_AFTER_POLLS = 3
# After this many stuck polls in a row, the process exits to be restarted.
MAX_STUCK_POLLS = 3

# Delay before subscribing again when a consumer is missing or NATS is unavailable.
RETRY_SECONDS = 1.0

# With `*` in WORKER_LANES: how often to look for new dedicated lanes.
DISCOVERY_SECONDS = 10.0


class ConsumerStalled(Exception):
    """Polls do not return, not even after new subscriptions."""


@dataclass
class Delivery:
    """A message delivered to this worker; the first of `ack`, `nak` and `term` settles it."""

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
        """The message's headers, including the trace context."""
        return dict(self.message.headers or {})

    @property
    def count(self) -> int:
        """How often the message has been delivered."""
        return self.message.metadata.num_delivered or 1

    async def ack(self) -> None:
        """Remove the message from the stream: its work is done."""
        await self._settle(self.message.ack)

    async def nak(self, delay: timedelta = timedelta(0)) -> None:
        """Return the message, to be redelivered after a delay."""
        seconds = max(delay.total_seconds(), 0.0)
        await self._settle(lambda: self.message.nak(delay=seconds or None))

    async def term(self) -> None:
        """Remove a message that can never be processed."""
        await self._settle(self.message.term)

    async def in_progress(self) -> None:
        """Report progress, which postpones the redelivery by the consumer's `ack_wait`."""
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
            # The message is redelivered, and the claim finds that its work is done.
            log.info("message.settle-failed", stage=self.stage, lane=self.lane, error=type(error).__name__)


Handler = Callable[[Delivery], Awaitable[None]]


class WorkConsumer:
    """Pulls the messages of a worker's stages from its lanes and passes them to `handler` until it is stopped.

    `handler` settles the delivery. If it raises, the error is logged and the message is redelivered.
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
        self._pollers: dict[tuple[Stage, str], asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._pulling = asyncio.Event()
        self._pulling.set()

    def pause(self) -> None:
        """Stop pulling for now, because every claim would fail: the database is unavailable."""
        self._pulling.clear()

    def resume(self) -> None:
        """Start pulling again."""
        self._pulling.set()

    async def run(self) -> None:
        """Pull and process messages until `stop` is called; raise ConsumerStalled if polls are stuck."""
        for lane in self._lanes.named:
            self._add_lane(lane)
        others: list[asyncio.Task[object]] = [asyncio.create_task(self._stopping.wait())]
        if self._lanes.any_dedicated:
            others.append(asyncio.create_task(self._discover_lanes()))
        try:
            while not self._stopping.is_set():
                watched: list[asyncio.Task[object]] = [*self._pollers.values(), *others]
                done, _ = await asyncio.wait(watched, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    # These tasks end only with an error, or because of `stop`.
                    task.result()
        finally:
            self._stopping.set()
            self._pulling.set()
            await end_tasks(*others)
            # Open polls run to their end, because a message that one of them receives must be returned.
            await asyncio.gather(*self._pollers.values(), return_exceptions=True)

    async def stop(self, *, grace: float) -> None:
        """Stop pulling, wait up to `grace` seconds for running jobs, and cancel the rest."""
        self._stopping.set()
        self._pulling.set()
        if self._jobs:
            _, unfinished = await asyncio.wait(self._jobs, timeout=grace)
            for job in unfinished:
                job.cancel()
            if unfinished:
                await asyncio.wait(unfinished)

    def _add_lane(self, lane: str) -> None:
        for stage in self._stages:
            if (stage, lane) not in self._pollers:
                self._pollers[stage, lane] = asyncio.create_task(self._poll(stage, lane), name=f"pull-{stage}-{lane}")

    async def _discover_lanes(self) -> None:
        while True:
            with contextlib.suppress(NatsError, OSError, NatsUnavailable):
                for lane in await existing_lanes(self._nats.js):
                    if is_dedicated(lane):
                        self._add_lane(lane)
            await asyncio.sleep(DISCOVERY_SECONDS)

    async def _poll(self, stage: Stage, lane: str) -> None:
        stuck = 0
        while not self._stopping.is_set():
            subscription: JetStreamContext.PullSubscription | None = None
            try:
                await self._nats.wait_connected(POLL_SECONDS)
                subscription = await self._nats.js.pull_subscribe_bind(consumer=stage, stream=work_stream(lane))
                while not self._stopping.is_set():
                    await self._pulling.wait()
                    await self._pull(subscription, stage, lane)
                    stuck = 0
            except _PollStuck:
                stuck += 1
                log.warning("consumer.poll-stuck", stage=stage, lane=lane, count=stuck, message="subscribing again")
                if stuck >= MAX_STUCK_POLLS:
                    raise ConsumerStalled(f"{stage} on {lane}") from None
            except (NatsError, OSError, NatsUnavailable) as error:
                log.info("consumer.pull-failed", stage=stage, lane=lane, error=type(error).__name__)
                await self._sleep(RETRY_SECONDS)
            finally:
                if subscription is not None:
                    with contextlib.suppress(NatsError, OSError):
                        await subscription.unsubscribe()

    async def _pull(self, subscription: JetStreamContext.PullSubscription, stage: Stage, lane: str) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS * STUCK_AFTER_POLLS):
                messages = await subscription.fetch(1, timeout=POLL_SECONDS)
        except NatsTimeout:
            # No message. This is a subclass of asyncio's TimeoutError, so it has to be caught first.
            return
        except TimeoutError as error:
            raise _PollStuck from error
        for message in messages:
            await self._start_job(Delivery(stage, lane, message))

    async def _start_job(self, delivery: Delivery) -> None:
        if self._stopping.is_set() or not self._pulling.is_set():
            await delivery.nak()
            return
        reporting = asyncio.create_task(self._report_progress(delivery))
        try:
            await self.slots.acquire(delivery.lane)
        finally:
            reporting.cancel()
        if self._stopping.is_set():
            self.slots.release()
            await delivery.nak()
            return
        job = asyncio.create_task(self._run_job(delivery))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _report_progress(self, delivery: Delivery) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            await delivery.in_progress()

    async def _run_job(self, delivery: Delivery) -> None:
        try:
            await self._handler(delivery)
        except asyncio.CancelledError:
            await delivery.nak()
            raise
        except Exception:
            log.exception("job.failed", stage=delivery.stage, lane=delivery.lane)
            await delivery.nak(timedelta(seconds=RETRY_SECONDS))
        finally:
            self.slots.release()

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


class _PollStuck(Exception):
    """A poll did not return within `STUCK_AFTER_POLLS` of its timeouts."""
