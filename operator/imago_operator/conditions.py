"""Conditions and the rest of `status`, built from what one pass found: pure functions over plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from imago.core.times import iso_utc

# `status.usage` changes with every upload; written each time it would be most of what the API server does for us.
USAGE_INTERVAL = timedelta(minutes=5)


class Kind(StrEnum):
    """The types of conditions."""

    READY = "Ready"
    CREDENTIALS = "CredentialsIssued"
    QUOTA = "QuotaApplied"
    STREAMS = "StreamsReady"


class Reason(StrEnum):
    """Why a condition is what it is; every reason has a message that says what to do."""

    RECONCILED = "Reconciled"
    API_UNAVAILABLE = "ApiUnavailable"
    CLIENT_OWNED = "ClientOwned"
    ADOPTION_REFUSED = "AdoptionRefused"
    SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - a reason's name
    ROTATING = "Rotating"
    SHARED_LANE = "SharedLane"
    LANE_DRAINING = "LaneDraining"
    SUSPENDED = "Suspended"
    PAUSED = "Paused"
    DELETING = "Deleting"
    # Beyond the table of the contract: what has no better name there.
    API_REFUSED = "ApiRefused"
    NATS_UNAVAILABLE = "NatsUnavailable"
    KUBERNETES_REFUSED = "KubernetesRefused"


TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


@dataclass(frozen=True)
class Finding:
    """What was found about one condition."""

    status: str
    reason: Reason
    message: str


def good(message: str, reason: Reason = Reason.RECONCILED) -> Finding:
    """Return that a condition holds."""
    return Finding(TRUE, reason, message)


def bad(reason: Reason, message: str) -> Finding:
    """Return that a condition does not hold."""
    return Finding(FALSE, reason, message)


@dataclass
class Outcome:
    """What a pass found out, as far as it came."""

    findings: dict[Kind, Finding] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """Members of `status` besides the conditions; None takes one away, and what isn't named stays."""


# A reason of a part that is worth showing in the printed column although all is well.
_TELLING = (Reason.SUSPENDED, Reason.LANE_DRAINING, Reason.SHARED_LANE)


def ready(findings: Mapping[Kind, Finding], *, suspended: bool) -> Finding:
    """Derive Ready from the parts: the first that fails says why."""
    for kind in (Kind.QUOTA, Kind.CREDENTIALS, Kind.STREAMS):
        found = findings.get(kind)
        if found is not None and found.status == FALSE and found.reason is not Reason.LANE_DRAINING:
            return found
    if suspended:
        return bad(Reason.SUSPENDED, "The client is suspended: its keys open nothing until spec.suspended is false.")
    for reason in _TELLING:
        for found in findings.values():
            if found.reason is reason:
                return good(found.message, reason)
    return good("The key in the Secret works, and plan, limits and lane are as the spec says.")


def build_conditions(
    old: list[dict[str, Any]] | None, findings: Mapping[Kind, Finding], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Merge findings into the conditions of before; a transition's time changes with the status alone."""
    before = {condition["type"]: condition for condition in old or ()}
    for kind, found in findings.items():
        known = before.get(kind)
        same = known is not None and known["status"] == found.status
        before[kind] = {
            "type": str(kind),
            "status": found.status,
            "reason": str(found.reason),
            "message": found.message,
            "lastTransitionTime": known["lastTransitionTime"] if known is not None and same else _seconds(now),
            "observedGeneration": generation,
        }
    order = {str(kind): number for number, kind in enumerate(Kind)}
    return sorted(before.values(), key=lambda condition: (order.get(condition["type"], len(order)), condition["type"]))


def build_status(old: Mapping[str, Any], outcome: Outcome, *, generation: int, now: datetime) -> dict[str, Any]:
    """Build the whole status from the one of before and an outcome."""
    merged = {**old, **outcome.facts}
    status = {name: value for name, value in merged.items() if value is not None}
    status["observedGeneration"] = generation
    status["conditions"] = build_conditions(old.get("conditions"), outcome.findings, generation=generation, now=now)
    return status


def build_usage(old: Mapping[str, Any] | None, usage: Mapping[str, int], now: datetime) -> dict[str, Any] | None:
    """Return `status.usage`: the old one until five minutes have passed and something has changed."""
    fresh = {
        "storageBytes": usage["storage_bytes"],
        "images": usage["images"],
        "aiCallsThisMonth": usage["ai_calls_this_month"],
    }
    if old:
        seen = datetime.fromisoformat(old["observedAt"])
        if now - seen < USAGE_INTERVAL or all(old.get(name) == value for name, value in fresh.items()):
            return dict(old)
    return {**fresh, "observedAt": _seconds(now)}


def find_condition(status: Mapping[str, Any], kind: Kind) -> Mapping[str, Any] | None:
    """Return a condition of a status, or None."""
    return next((entry for entry in status.get("conditions") or () if entry["type"] == kind), None)


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) that turns one object into another; empty where they are equal."""
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
    """Format a moment as Kubernetes does: to the second."""
    return _seconds(moment)


def _seconds(moment: datetime) -> str:
    return iso_utc(moment.replace(microsecond=0))
