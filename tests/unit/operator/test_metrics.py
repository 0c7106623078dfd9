"""The metrics about resources."""

from datetime import timedelta
from typing import Any

from prometheus_client import REGISTRY

from imago.core.times import utc_now
from imago_operator.conditions import kubernetes_time
from imago_operator.metrics import ResourceMetrics


def status(ready: str, *, rotate_in: timedelta | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = {"conditions": [{"type": "Ready", "status": ready, "reason": "Reconciled"}]}
    if rotate_in is not None:
        shown["apiKey"] = {"keyId": "abcdefgh", "rotateAt": kubernetes_time(utc_now() + rotate_in)}
    return shown


def clients(ready: str) -> float | None:
    labels = {"condition": "Ready", "status": ready, "reason": "Reconciled"}
    return REGISTRY.get_sample_value("imago_operator_clients", labels)


def overdue() -> float | None:
    return REGISTRY.get_sample_value("imago_operator_rotations_overdue")


def test_resources_are_counted_by_their_current_conditions() -> None:
    recorded = ResourceMetrics()
    for uid in ("a", "b"):
        recorded.record(uid, status("True"))
    assert clients("True") == 2
    recorded.record("a", status("False"))
    assert (clients("True"), clients("False")) == (1, 1)
    recorded.forget("b")
    assert clients("True") == 0


def test_a_rotation_is_overdue_until_it_is_done_or_the_resource_is_deleted() -> None:
    recorded = ResourceMetrics()
    hour = timedelta(hours=1)
    recorded.record("a", status("True", rotate_in=-hour))
    recorded.record("b", status("True", rotate_in=-hour))
    recorded.record("c", status("True", rotate_in=hour))
    recorded.record("d", status("True"))
    assert overdue() == 2
    recorded.record("a", status("True", rotate_in=hour))
    assert overdue() == 1
    recorded.forget("b")
    assert overdue() == 0
