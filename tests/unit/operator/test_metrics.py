"""What the operator shows of the resources it has seen."""

from datetime import timedelta
from typing import Any

from prometheus_client import REGISTRY

from imago.core.times import utc_now
from imago_operator.conditions import kubernetes_time
from imago_operator.metrics import Conditions


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


def test_resources_are_counted_by_what_they_are_now() -> None:
    seen = Conditions()
    for uid in ("a", "b"):
        seen.note(uid, status("True"))
    assert clients("True") == 2
    seen.note("a", status("False"))
    assert (clients("True"), clients("False")) == (1, 1)
    seen.forget("b")
    assert clients("True") == 0


def test_a_rotation_is_overdue_until_it_is_done_or_its_resource_gone() -> None:
    seen = Conditions()
    hour = timedelta(hours=1)
    seen.note("a", status("True", rotate_in=-hour))
    seen.note("b", status("True", rotate_in=-hour))
    seen.note("c", status("True", rotate_in=hour))
    seen.note("d", status("True"))
    assert overdue() == 2
    seen.note("a", status("True", rotate_in=hour))
    assert overdue() == 1
    seen.forget("b")
    assert overdue() == 0
