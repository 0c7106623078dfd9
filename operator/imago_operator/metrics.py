"""The operator's metrics; labels are bounded, and never a client."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from imago.core.times import utc_now

# From a look that finds nothing to do to a pass against an API that is slow to answer.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RECONCILES = Counter(
    "imago_operator_reconciles_total", "Passes over resources, by why and how they ended.", ["trigger", "outcome"]
)
RECONCILE_SECONDS = Histogram(
    "imago_operator_reconcile_duration_seconds", "Time a pass took.", ["trigger"], buckets=_BUCKETS
)
ERRORS = Counter("imago_operator_errors_total", "Passes that didn't reach their end, by reason.", ["reason"])
CLIENTS = Gauge(
    "imago_operator_clients", "Resources by condition, its status and reason.", ["condition", "status", "reason"]
)
ROTATIONS_OVERDUE = Gauge(
    "imago_operator_rotations_overdue", "Resources whose key should have been replaced by now, after its interval."
)
API_REQUESTS = Counter(
    "imago_operator_api_requests_total", "Requests to Imago's API, by status.", ["request", "status"]
)
KEYS_ISSUED = Counter("imago_operator_keys_issued_total", "Keys made, by why.", ["reason"])
SWEPT = Counter("imago_operator_swept_total", "What nobody owned and was removed, by kind.", ["kind"])
SWEEP_FAILURES = Counter("imago_operator_sweep_failures_total", "Sweeps that didn't reach their end.")


class Conditions:
    """Keeps `imago_operator_clients` and the overdue rotations in step with the resources seen by this process."""

    def __init__(self) -> None:
        CLIENTS.clear()
        self._rotations: dict[str, datetime] = {}
        # Counted when asked for: that time passes is what makes one overdue.
        ROTATIONS_OVERDUE.set_function(self.rotations_overdue)
        self._known: dict[str, frozenset[tuple[str, str, str]]] = {}
        self._tally: Tally[tuple[str, str, str]] = Tally()

    def note(self, uid: str, status: Mapping[str, Any]) -> None:
        """Note the status of a resource."""
        rotate_at = (status.get("apiKey") or {}).get("rotateAt")
        if rotate_at is None:
            self._rotations.pop(uid, None)
        else:
            self._rotations[uid] = datetime.fromisoformat(rotate_at)
        conditions: Iterable[Mapping[str, Any]] = status["conditions"]
        self._change(uid, frozenset((entry["type"], entry["status"], entry["reason"]) for entry in conditions))

    def forget(self, uid: str) -> None:
        """Forget a resource that is gone."""
        self._change(uid, frozenset())
        self._known.pop(uid, None)
        self._rotations.pop(uid, None)

    def rotations_overdue(self) -> int:
        """Return how many keys should have been replaced by now."""
        now = utc_now()
        return sum(at < now for at in self._rotations.values())

    def _change(self, uid: str, fresh: frozenset[tuple[str, str, str]]) -> None:
        before = self._known.get(uid, frozenset())
        self._known[uid] = fresh
        self._tally.subtract(before - fresh)
        self._tally.update(fresh - before)
        for labels in before ^ fresh:
            CLIENTS.labels(*labels).set(self._tally[labels])
