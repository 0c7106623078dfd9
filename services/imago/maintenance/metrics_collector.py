"""Reads the state of stages, queues and quotas from the database and the streams, and exposes it as metrics.

One API process collects them, under a lease. Workers scale to zero, and the counters of a worker that lives for less
than a scrape interval are lost, so alerts rely on these metrics instead.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from imago.core.jobs import job_metrics
from imago.core.jobs.job_metrics import OpenWork
from imago.core.jobs.stages import TERMINAL_IMAGE_STATUSES, Stage, StageStatus
from imago.core.lanes.model import DEDICATED, SHARED_LANES, lane_label
from imago.core.times import utc_now
from imago.db.engine import Database
from imago.nats.connection import NatsConnection, NatsUnavailable
from imago.nats.lag import QueueLag, queue_lag
from imago.telemetry import metrics
from imago.telemetry.snapshot import Labels, Snapshot

# Only images that ended this long ago are counted: their time is set before the commit, and workers' clocks differ.
COMMIT_MARGIN = timedelta(seconds=5)

# How long a dead letter counts as recent.
RECENT = timedelta(hours=1)

# The maximum number of images in one run; the next run continues.
_ENDED_LIMIT = 10_000

_LANES = (*SHARED_LANES, DEDICATED)


class MetricsCollector:
    """Collects the metrics of queues, open stages, ended images, dead letters and quotas."""

    def __init__(self, db: Database, nats: NatsConnection) -> None:
        self._db = db
        self._nats = nats
        self._streams = Snapshot(metrics.QUEUE_MESSAGES)
        self._stages = Snapshot(
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
        """Update all metrics; return the number of images that ended since the last run. Raises DatabaseUnavailable."""
        now = utc_now()
        self._set_open_stages(await job_metrics.open_work(self._db, now=now), now)
        await self._set_dead_letters(now)
        await self._set_quotas()
        ended = await self._count_ended(now - COMMIT_MARGIN)
        try:
            self._set_lag(await queue_lag(self._nats))
        except NatsUnavailable:
            # Outdated values must not be exposed. `imago_nats_connected` reports the outage.
            self._streams.clear()
        return ended

    def clear(self) -> None:
        """Remove the metrics: another process collects them now."""
        self._ended_until = None
        for snapshot in (self._streams, self._stages, self._rest):
            snapshot.clear()

    def _set_lag(self, lags: Iterable[QueueLag]) -> None:
        # Including zeros, which distinguish an empty queue from an unknown one.
        messages: dict[Labels, float] = {
            (stage, lane, state): 0 for stage in Stage for lane in _LANES for state in ("pending", "delivered")
        }
        for lag in lags:
            lane = lane_label(lag.lane)
            messages[lag.stage, lane, "pending"] += lag.pending
            messages[lag.stage, lane, "delivered"] += lag.delivered
        self._streams.replace(metrics.QUEUE_MESSAGES, messages)

    def _set_open_stages(self, work: Iterable[OpenWork], now: datetime) -> None:
        states = ("waiting", "running", "retrying", "parked")
        stages: dict[Labels, float] = {
            (stage, lane, state): 0 for stage in Stage for lane in _LANES for state in states
        }
        oldest: dict[Labels, float] = {(stage, lane): 0 for stage in Stage for lane in _LANES}
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
        self._stages.replace(metrics.OPEN_STAGES, stages)
        self._stages.replace(metrics.QUEUE_OLDEST, oldest)
        self._stages.replace(metrics.CLIENT_OPEN_STAGES, of_client)
        self._stages.replace(metrics.CLIENT_OLDEST, client_oldest)

    async def _set_dead_letters(self, now: datetime) -> None:
        letters: defaultdict[Labels, float] = defaultdict(float)
        for counted in await job_metrics.dead_letters_since(self._db, since=now - RECENT):
            letters[counted.stage, counted.error_code, metrics.client_label(counted.client)] += counted.count
        self._rest.replace(metrics.RECENT_DEAD_LETTERS, letters)

    async def _set_quotas(self) -> None:
        used: dict[Labels, float] = {}
        for client, usage in await job_metrics.usages(self._db):
            limits, label = client.limits, metrics.client_label(client.name)
            for quota, amount, limit in (
                ("storage", usage.storage_bytes, limits.storage_bytes),
                ("images", usage.images, limits.images),
            ):
                # A limit of zero is intentional, so its quota does not count as nearly used up.
                ratio = amount / limit if limit else 0.0
                used[label, quota] = max(used.get((label, quota), 0.0), ratio)
        self._rest.replace(metrics.QUOTA_USED, used)

    async def _count_ended(self, until: datetime) -> int:
        after, self._ended_until = self._ended_until, until
        if after is None:
            # Earlier images were counted by the previous holder of the lease, or not at all.
            return 0
        try:
            ended = await job_metrics.ended_images(self._db, after=after, until=until, limit=_ENDED_LIMIT)
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
