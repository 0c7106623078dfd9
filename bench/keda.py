"""How many replicas KEDA and the HPA want for a lag, second by second.

KEDA hands the HPA the lag (`num_pending + num_ack_pending`) as an external metric with a target average. The HPA wants
ceil(lag / target), keeps what is within its tolerance, adds at most what its scale-up policies allow and, before it
takes away, waits for the highest wish of the last five minutes (Kubernetes 1.29, autoscaling/v2 defaults). From zero to
one and back it is KEDA's: active as soon as a poll sees more than the activation threshold, zero after the cooldown.
"""

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scaling:
    """The settings of a ScaledObject with one trigger, and of the HPA it makes; times in seconds."""

    target: float
    """Messages one replica is to have before it (`lagThreshold`)."""
    least: int = 0
    most: int = 10
    activation: float = 0.0
    polling: float = 30.0
    cooldown: float = 300.0
    sync: float = 15.0
    tolerance: float = 0.1
    stabilization: float = 300.0
    start: float = 20.0
    """From wanting a pod to its first message: scheduling, pulling a cached image, loading engines."""


def wanted(lag: float, present: int, scaling: Scaling) -> int:
    """Return what the HPA wants for a lag with so many replicas present, before policies and bounds."""
    if present > 0 and abs(lag / (scaling.target * present) - 1) <= scaling.tolerance:
        return present
    return math.ceil(lag / scaling.target)


def allowed(present: int) -> int:
    """Return up to how many the HPA may go within 15 seconds: twice as many or four more, whichever is more."""
    return max(2 * present, present + 4)


@dataclass
class Autoscaler:
    """KEDA and the HPA of one Deployment; `step` each second with the lag."""

    scaling: Scaling
    replicas: int = 0
    _ready_at: list[float] = field(default_factory=list)
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)
    _active_until: float = -math.inf
    _next_poll: float = 0.0
    _next_sync: float = 0.0

    def __post_init__(self) -> None:
        self._set(self.scaling.least, -math.inf)

    def step(self, now: float, lag: float) -> int:
        """Return how many replicas are ready at this second."""
        if now >= self._next_poll:
            self._next_poll = now + self.scaling.polling
            if lag > self.scaling.activation:
                self._active_until = now + self.scaling.cooldown
                if self.replicas == 0:
                    self._set(1, now)
            elif now >= self._active_until and self.scaling.least == 0:
                self._set(0, now)
        if now >= self._next_sync:
            self._next_sync = now + self.scaling.sync
            if self.replicas > 0:
                self._set(self._decided(now, lag), now)
        return sum(ready <= now for ready in self._ready_at)

    def _decided(self, now: float, lag: float) -> int:
        scaling = self.scaling
        wish = min(max(wanted(lag, self.replicas, scaling), scaling.least, 1), scaling.most)
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - scaling.stabilization:
            self._wishes.popleft()
        if wish > self.replicas:
            return min(wish, allowed(self.replicas))
        return min(self.replicas, max(each for _, each in self._wishes))

    def _set(self, replicas: int, now: float) -> None:
        self.replicas = replicas
        while len(self._ready_at) < replicas:
            self._ready_at.append(now + self.scaling.start)
        # The youngest go first, as the ReplicaSet does it.
        del self._ready_at[replicas:]
