"""A model of the replicas that KEDA and the HPA set for a lag, in steps of a second.

KEDA reports the lag (`num_pending + num_ack_pending`) to the HPA as an external metric with a target average. The HPA
computes ceil(lag / target) and ignores changes within its tolerance. It scales up within its policies, and scales down
to the highest recommendation of the last five minutes (Kubernetes 1.29, autoscaling/v2 defaults). KEDA scales from zero
to one when a poll exceeds the activation threshold, and back to zero after the cooldown.
"""

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scaling:
    """The settings of a ScaledObject with one trigger, and of the HPA that KEDA creates; times in seconds."""

    target: float
    """Target messages per replica (`lagThreshold`)."""
    least: int = 0
    most: int = 10
    activation: float = 0.0
    polling: float = 30.0
    cooldown: float = 300.0
    sync: float = 15.0
    tolerance: float = 0.1
    stabilization: float = 300.0
    start: float = 20.0
    """From creating a pod to its first message: scheduling, starting a cached image, loading engines."""


def desired(lag: float, present: int, scaling: Scaling) -> int:
    """Return the HPA's desired replicas for a lag and the current replicas, before policies and bounds."""
    if present > 0 and abs(lag / (scaling.target * present) - 1) <= scaling.tolerance:
        return present
    return math.ceil(lag / scaling.target)


def allowed(present: int) -> int:
    """Return the HPA's scale-up limit within 15 seconds: twice as many or four more, whichever is higher."""
    return max(2 * present, present + 4)


@dataclass
class Autoscaler:
    """KEDA and the HPA of one Deployment; call `step` every second with the lag."""

    scaling: Scaling
    replicas: int = 0
    _ready_at: list[float] = field(default_factory=list)
    _recommendations: deque[tuple[float, int]] = field(default_factory=deque)
    _active_until: float = -math.inf
    _next_poll: float = 0.0
    _next_sync: float = 0.0

    def __post_init__(self) -> None:
        self._set(self.scaling.least, -math.inf)

    def step(self, now: float, lag: float) -> int:
        """Return the number of ready replicas."""
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
        recommendation = min(max(desired(lag, self.replicas, scaling), scaling.least, 1), scaling.most)
        self._recommendations.append((now, recommendation))
        while self._recommendations[0][0] < now - scaling.stabilization:
            self._recommendations.popleft()
        if recommendation > self.replicas:
            return min(recommendation, allowed(self.replicas))
        return min(self.replicas, max(each for _, each in self._recommendations))

    def _set(self, replicas: int, now: float) -> None:
        self.replicas = replicas
        while len(self._ready_at) < replicas:
            self._ready_at.append(now + self.scaling.start)
        # The newest pods are removed first, as by a ReplicaSet.
        del self._ready_at[replicas:]
