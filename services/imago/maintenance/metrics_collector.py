"""The observer: reads the state of the work from the database and the streams, and shows it as metrics.

One API process does it for all, under a lease. Workers scale to zero, and a worker that lives for a minute between two
scrapes takes what it counted with it; what an alert rests on is therefore read from the truth.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog

from imago.core.jobs import job_metrics as observation
from imago.core.jobs.job_metrics import OpenWork
from imago.core.jobs.stages import STAGES, TERMINAL_IMAGE_STATUSES, StageStatus
from imago.core.lanes.model import DEDICATED, SHARED_LANES, lane_label
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.lag import QueueLag, queue_lag
from imago.telemetry import metrics
from imago.telemetry.snapshot import Labels, Snapshot

log = structlog.get_logger(__name__)

# A row's time is taken before its transaction commits, and the clocks of workers differ a little.
SETTLING = timedelta(seconds=5)

# How long a dead letter is told of.
RECENT = timedelta(hours=1)

# Read at once; the rest is read at the next turn.
_ENDED_LIMIT = 10_000

_LANES = (*SHARED_LANES, DEDICATED)


class MetricsCollector:
    """Shows queues, open work, ended images, dead letters and quotas."""

    def __init__(self, db: Database, nats: NatsConnection) -> None:
        self._db = db
        self._nats = nats
        self._streams = Snapshot(metrics.QUEUE_MESSAGES)
        self._work = Snapshot(
            metrics.OPEN_STAGES, metrics.QUEUE_OLDEST, metrics.CLIENT_OPEN_STAGES, metrics.CLIENT_OLDEST
        )
        self._rest = Snapshot(metrics.RECENT_DEAD_LETTERS, metrics.QUOTA_USED)
        self._ended_until: datetime | None = None
        for client in metrics.client_labels():
            for lane in _LANES:
                metrics.IMAGE_DONE_SECONDS.labels(lane, client)
            for status in TERMINAL_IMAGE_STATUSES:
                metrics.IMAGES_DONE.labels(client, status)

    async def run_once(self) -> int:
        """Look at everything once; return how many images ended since the last look. Raises DatabaseUnavailable."""
        now = utc_now()
        self._show_open(await observation.open_work(self._db, now=now), now)
        await self._show_dead_letters(now)
        await self._show_quotas()
        ended = await self._count_ended(now - SETTLING)
        try:
            self._show_lag(await queue_lag(self._nats))
        except NatsUnavailable:
            # What it was is not what it is; that NATS is away has a metric of its own.
            self._streams.clear()
        return ended

    def clear(self) -> None:
        """Take back what the metrics tell: another process looks now."""
        self._ended_until = None
        for snapshot in (self._streams, self._work, self._rest):
            snapshot.clear()

    def _show_lag(self, lags: Iterable[QueueLag]) -> None:
        # Zeros too: an empty queue isn't an unknown one.
        messages: dict[Labels, float] = {
            (stage, lane, state): 0 for stage in STAGES for lane in _LANES for state in ("pending", "delivered")
        }
        for lag in lags:
            lane = lane_label(lag.lane)
            messages[lag.stage, lane, "pending"] += lag.pending
            messages[lag.stage, lane, "delivered"] += lag.delivered
        self._streams.replace(metrics.QUEUE_MESSAGES, messages)

    def _show_open(self, work: Iterable[OpenWork], now: datetime) -> None:
        states = ("waiting", "running", "retrying", "parked")
        stages: dict[Labels, float] = {
            (stage, lane, state): 0 for stage in STAGES for lane in _LANES for state in states
        }
        oldest: dict[Labels, float] = {(stage, lane): 0 for stage in STAGES for lane in _LANES}
        of_client: dict[Labels, float] = {(client,): 0 for client in metrics.client_labels()}
        client_oldest: dict[Labels, float] = {(client,): 0 for client in metrics.client_labels()}
        for item in work:
            lane, client = lane_label(item.lane), metrics.client_label(item.client)
            state = _state(item)
            stages[item.stage, lane, state] += item.count
            of_client[client,] += item.count
            if item.oldest is not None and state in ("waiting", "retrying"):
                age = max((now - item.oldest).total_seconds(), 0.0)
                oldest[item.stage, lane] = max(oldest[item.stage, lane], age)
                client_oldest[client,] = max(client_oldest[client,], age)
        self._work.replace(metrics.OPEN_STAGES, stages)
        self._work.replace(metrics.QUEUE_OLDEST, oldest)
        self._work.replace(metrics.CLIENT_OPEN_STAGES, of_client)
        self._work.replace(metrics.CLIENT_OLDEST, client_oldest)

    async def _show_dead_letters(self, now: datetime) -> None:
        letters: defaultdict[Labels, float] = defaultdict(float)
        for counted in await observation.dead_letters_since(self._db, since=now - RECENT):
            letters[counted.stage, counted.error_code, metrics.client_label(counted.client)] += counted.count
        self._rest.replace(metrics.RECENT_DEAD_LETTERS, letters)

    async def _show_quotas(self) -> None:
        used: dict[Labels, float] = {}
        for client, usage in await observation.usages(self._db):
            limits, label = client.limits, metrics.client_label(client.name)
            for quota, amount, limit in (
                ("storage", usage.storage_bytes, limits.storage_bytes),
                ("images", usage.images, limits.images),
            ):
                # A limit of zero is used up by nothing at all, on purpose; that is no quota about to end.
                ratio = amount / limit if limit else 0.0
                used[label, quota] = max(used.get((label, quota), 0.0), ratio)
        self._rest.replace(metrics.QUOTA_USED, used)

    async def _count_ended(self, until: datetime) -> int:
        after, self._ended_until = self._ended_until, until
        if after is None:
            # What ended before this process looked was counted by another one, or by nobody.
            return 0
        try:
            ended = await observation.ended_images(self._db, after=after, until=until, limit=_ENDED_LIMIT)
        except BaseException:
            self._ended_until = after
            raise
        if len(ended) == _ENDED_LIMIT:
            self._ended_until = ended[-1].done_at
        for image in ended:
            client = metrics.client_label(image.client)
            metrics.IMAGES_DONE.labels(client, image.status).inc()
            metrics.IMAGE_DONE_SECONDS.labels(lane_label(image.lane), client).observe(image.took.total_seconds())
        return len(ended)


def _state(item: OpenWork) -> str:
    if item.parked:
        return "parked"
    return {StageStatus.RUNNING: "running", StageStatus.RETRYING: "retrying"}.get(item.status, "waiting")
