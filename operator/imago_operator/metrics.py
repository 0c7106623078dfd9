"""The operator's metrics; labels are bounded, and none names a client."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from imago.core.times import utc_now

# From a reconciliation without changes to one against a slow API.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RECONCILES = Counter(
    "imago_operator_reconciles_total", "Reconciliations, by trigger and outcome.", ["trigger", "outcome"]
)
RECONCILE_SECONDS = Histogram(
    "imago_operator_reconcile_duration_seconds", "Duration of a reconciliation.", ["trigger"], buckets=_BUCKETS
)
ERRORS = Counter("imago_operator_errors_total", "Reconciliations that failed or were deferred, by reason.", ["reason"])
CLIENTS = Gauge(
    "imago_operator_clients",
    "ImagoClients by condition, its status and its reason.",
    ["condition", "status", "reason"],
)
ROTATIONS_OVERDUE = Gauge(
    "imago_operator_rotations_overdue", "ImagoClients whose key is older than their rotation interval."
)
API_REQUESTS = Counter(
    "imago_operator_api_requests_total", "Requests to Imago's API, by kind and status.", ["request", "status"]
)
KEYS_ISSUED = Counter("imago_operator_keys_issued_total", "Keys issued, by reason.", ["reason"])
SWEPT = Counter("imago_operator_swept_total", "Orphaned objects deleted, by kind.", ["kind"])
SWEEP_FAILURES = Counter("imago_operator_sweep_failures_total", "Failed steps of sweeps.")


class ResourceMetrics:
    """Keeps `imago_operator_clients` and the overdue rotations up to date for the resources of this process."""

    def __init__(self) -> None:
        CLIENTS.clear()
        self._rotations: dict[str, datetime] = {}
        # Counted when scraped: a rotation becomes overdue by the passing of time.
        ROTATIONS_OVERDUE.set_function(self.rotations_overdue)
        self._known: dict[str, frozenset[tuple[str, str, str]]] = {}
        self._tally: Tally[tuple[str, str, str]] = Tally()

    def record(self, uid: str, status: Mapping[str, Any]) -> None:
        """Record the status of a resource."""
        rotate_at = (status.get("apiKey") or {}).get("rotateAt")
        if rotate_at is None:
            self._rotations.pop(uid, None)
        else:
            self._rotations[uid] = datetime.fromisoformat(rotate_at)
        conditions: Iterable[Mapping[str, Any]] = status["conditions"]
        self._replace(uid, frozenset((entry["type"], entry["status"], entry["reason"]) for entry in conditions))

    def forget(self, uid: str) -> None:
        """Drop a deleted resource."""
        self._replace(uid, frozenset())
        self._known.pop(uid, None)
        self._rotations.pop(uid, None)

    def rotations_overdue(self) -> int:
        """Return the number of keys whose rotation is overdue."""
        now = utc_now()
        return sum(at < now for at in self._rotations.values())

    def _replace(self, uid: str, fresh: frozenset[tuple[str, str, str]]) -> None:
        before = self._known.get(uid, frozenset())
        self._known[uid] = fresh
        self._tally.subtract(before - fresh)
        self._tally.update(fresh - before)
        for labels in before ^ fresh:
            CLIENTS.labels(*labels).set(self._tally[labels])
