"""Simulates a day of uploads through stages that KEDA scales: lag, replicas, and the time until uploads are done.

Time advances in steps of a second. An uploaded image enters the queue of each stage, and is done when all stages are. A
stage's ready replicas take messages in order, at the rate that the measured cost allows. Scaling down repeats no work,
because workers finish or release their messages before they exit.
"""

import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.keda import Autoscaler, Scaling
from bench.statistics import percentile

DAY = 86_400


@dataclass(frozen=True)
class Stage:
    """A stage of one lane: CPU seconds per image, cores per pod, and scaling."""

    cpu_seconds: float
    scaling: Scaling
    cores: float = 1.0

    @property
    def rate(self) -> float:
        """Images per second of one replica."""
        return self.cores / self.cpu_seconds


@dataclass
class Lane:
    """The simulated day of one lane: lag and replicas per minute, and the time until done per image."""

    lag: list[int] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def p(self, share: float) -> float:
        """Return a percentile of the seconds from upload to done."""
        return percentile(self.waits, share)


def arrivals(
    per_day: int, *, burst: float, burst_at: int, burst_seconds: int, seed: int, seconds: int = DAY
) -> list[int]:
    """Return uploads per second: a daily cosine wave, lowest at 4:00, with a burst; Poisson-distributed.

    The wave contains `per_day` uploads. The burst is additional, at `burst` times the mean rate of the day.
    """
    chance, mean = random.Random(seed), per_day / DAY
    counts = []
    for second in range(seconds):
        rate = mean * (1 - 0.8 * math.cos(2 * math.pi * (second - 4 * 3600) / DAY))
        if burst_at <= second < burst_at + burst_seconds:
            rate = max(rate, burst * mean)
        counts.append(_poisson(chance, rate))
    return counts


def simulate(uploads: Sequence[int], stages: Mapping[str, Stage], *, floor_seconds: float = 0.2) -> Lane:
    """Simulate a lane until all uploads are done; `floor_seconds` is the time of an upload on an idle system."""
    lane = Lane()
    scalers = {name: Autoscaler(stage.scaling) for name, stage in stages.items()}
    queues: dict[str, deque[int]] = {name: deque() for name in stages}
    credit = dict.fromkeys(stages, 0.0)
    arrived: list[int] = []
    open_stages: list[int] = []
    now = 0
    while now < len(uploads) or any(queues.values()):
        for _ in range(uploads[now] if now < len(uploads) else 0):
            for queue in queues.values():
                queue.append(len(arrived))
            arrived.append(now)
            open_stages.append(len(stages))
        for name, stage in stages.items():
            queue = queues[name]
            ready = scalers[name].step(now, len(queue))
            # Capacity not used within a second is lost; the fraction of an image in progress is kept.
            credit[name] = min(credit[name] + ready * stage.rate, ready * stage.rate + 1) if ready else 0.0
            while queue and credit[name] >= 1:
                credit[name] -= 1
                image = queue.popleft()
                open_stages[image] -= 1
                if not open_stages[image]:
                    lane.waits.append(now - arrived[image] + floor_seconds)
        if now % 60 == 0:
            lane.lag.append(max(map(len, queues.values())))
            lane.replicas.append(sum(scaler.replicas for scaler in scalers.values()))
        now += 1
        if now > len(uploads) + DAY:
            raise ValueError("the stages never catch up: the replica limit is too low")
    return lane


def _poisson(chance: random.Random, mean: float) -> int:
    """Return a Poisson-distributed number: Knuth's algorithm for small means, else a normal approximation."""
    if mean > 30:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count
