"""Conditions and the other fields of `status`, as pure functions over plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from imago.core.times import iso_utc

# Every upload changes `status.usage`; writing each change would dominate the operator's load on the API server.
USAGE_INTERVAL = timedelta(minutes=5)


class ConditionType(StrEnum):
    """The types of conditions."""

    READY = "Ready"
    CREDENTIALS = "CredentialsIssued"
    QUOTA = "QuotaApplied"
    STREAMS = "StreamsReady"
    COMPLETE = "Complete"


class Reason(StrEnum):
    """The reasons of conditions; every condition also has a message that says what to do."""

    RECONCILED = "Reconciled"
    API_UNAVAILABLE = "ApiUnavailable"
    CLIENT_OWNED = "ClientOwned"
    ADOPTION_REFUSED = "AdoptionRefused"
    SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - the name of a reason
    ROTATING = "Rotating"
    SHARED_LANE = "SharedLane"
    LANE_DRAINING = "LaneDraining"
    SUSPENDED = "Suspended"
    PAUSED = "Paused"
    DELETING = "Deleting"
    API_REFUSED = "ApiRefused"
    NATS_UNAVAILABLE = "NatsUnavailable"
    KUBERNETES_REFUSED = "KubernetesRefused"
    CLIENT_FOREIGN = "ClientForeign"
    NOTHING_SELECTED = "NothingSelected"
    JOB_DELETED = "JobDeleted"


TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


@dataclass(frozen=True)
class Condition:
    """The status, reason and message of a condition."""

    status: str
    reason: Reason
    message: str


def true_condition(message: str, reason: Reason = Reason.RECONCILED) -> Condition:
    """Return a condition with status True."""
    return Condition(TRUE, reason, message)


def false_condition(reason: Reason, message: str) -> Condition:
    """Return a condition with status False."""
    return Condition(FALSE, reason, message)


@dataclass
class StatusUpdate:
    """The changes to `status` collected during one reconciliation."""

    conditions: dict[ConditionType, Condition] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    """Members of `status` other than the conditions; None removes one, and members not named stay."""


# Reasons of parts that Ready repeats although it is True, so that `kubectl get` shows them.
_REPEATED_BY_READY = (Reason.SUSPENDED, Reason.LANE_DRAINING, Reason.SHARED_LANE)


def derive_ready(conditions: Mapping[ConditionType, Condition], *, suspended: bool) -> Condition:
    """Return Ready for the other conditions: the first one that is False determines the reason."""
    for kind in (ConditionType.QUOTA, ConditionType.CREDENTIALS, ConditionType.STREAMS):
        condition = conditions.get(kind)
        if condition is not None and condition.status == FALSE and condition.reason is not Reason.LANE_DRAINING:
            return condition
    if suspended:
        return false_condition(
            Reason.SUSPENDED, "The client is suspended: its keys are rejected until spec.suspended is false."
        )
    for reason in _REPEATED_BY_READY:
        for condition in conditions.values():
            if condition.reason is reason:
                return true_condition(condition.message, reason)
    return true_condition("The key in the Secret is valid; plan, limits and lane match the spec.")


def build_conditions(
    old: list[dict[str, Any]] | None, updates: Mapping[ConditionType, Condition], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Merge updates into the previous conditions; `lastTransitionTime` changes only with the status."""
    merged = {condition["type"]: condition for condition in old or ()}
    for kind, update in updates.items():
        previous = merged.get(kind)
        unchanged = previous is not None and previous["status"] == update.status
        merged[kind] = {
            "type": str(kind),
            "status": update.status,
            "reason": str(update.reason),
            "message": update.message,
            "lastTransitionTime": (
                previous["lastTransitionTime"] if previous is not None and unchanged else kubernetes_time(now)
            ),
            "observedGeneration": generation,
        }
    order = {str(kind): number for number, kind in enumerate(ConditionType)}
    return sorted(merged.values(), key=lambda condition: (order.get(condition["type"], len(order)), condition["type"]))


def build_status(old: Mapping[str, Any], update: StatusUpdate, *, generation: int, now: datetime) -> dict[str, Any]:
    """Build the whole status from the previous one and an update."""
    merged = {**old, **update.fields}
    status = {name: value for name, value in merged.items() if value is not None}
    status["observedGeneration"] = generation
    status["conditions"] = build_conditions(old.get("conditions"), update.conditions, generation=generation, now=now)
    return status


def build_usage(old: Mapping[str, Any] | None, usage: Mapping[str, int], now: datetime) -> dict[str, Any] | None:
    """Return `status.usage`, which changes at most every five minutes and only if a number changed."""
    fresh = {
        "storageBytes": usage["storage_bytes"],
        "images": usage["images"],
        "aiCallsThisMonth": usage["ai_calls_this_month"],
    }
    if old:
        observed_at = datetime.fromisoformat(old["observedAt"])
        if now - observed_at < USAGE_INTERVAL or all(old.get(name) == value for name, value in fresh.items()):
            return dict(old)
    return {**fresh, "observedAt": kubernetes_time(now)}


def find_condition(status: Mapping[str, Any], kind: ConditionType) -> Mapping[str, Any] | None:
    """Return a condition of a status, or None."""
    return next((entry for entry in status.get("conditions") or () if entry["type"] == kind), None)


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) that turns `old` into `new`; empty if they are equal."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_patch(before, value)
            if inner:
                patch[name] = inner
        elif name not in old or before != value:
            patch[name] = value
    return patch


def kubernetes_time(moment: datetime) -> str:
    """Format a moment as Kubernetes does, to the second."""
    return iso_utc(moment.replace(microsecond=0))
