"""Building conditions and the rest of the status."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from imago_operator.conditions import (
    FALSE,
    TRUE,
    UNKNOWN,
    Condition,
    ConditionType,
    Reason,
    StatusUpdate,
    build_conditions,
    build_status,
    build_usage,
    derive_ready,
    false_condition,
    merge_patch,
    true_condition,
)

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
READY = ConditionType.READY


def test_ready_repeats_the_first_condition_that_is_false() -> None:
    findings = {
        ConditionType.QUOTA: true_condition("."),
        ConditionType.CREDENTIALS: false_condition(Reason.SECRET_CONFLICT, "move it"),
        ConditionType.STREAMS: false_condition(Reason.NATS_UNAVAILABLE, "unavailable"),
    }
    assert derive_ready(findings, suspended=False) == false_condition(Reason.SECRET_CONFLICT, "move it")


def test_ready_stays_true_and_gives_the_reason_while_a_lane_drains_or_premium_is_used_instead() -> None:
    draining = {ConditionType.STREAMS: false_condition(Reason.LANE_DRAINING, "3 left")}
    assert derive_ready(draining, suspended=False) == Condition(TRUE, Reason.LANE_DRAINING, "3 left")
    shared = {ConditionType.STREAMS: true_condition("premium instead", Reason.SHARED_LANE)}
    assert derive_ready(shared, suspended=False) == Condition(TRUE, Reason.SHARED_LANE, "premium instead")
    unknown = {ConditionType.STREAMS: Condition(UNKNOWN, Reason.NATS_UNAVAILABLE, "unavailable")}
    assert derive_ready(unknown, suspended=False).reason is Reason.RECONCILED


def test_a_suspended_client_is_not_ready() -> None:
    found = derive_ready({}, suspended=True)
    assert (found.status, found.reason) == (FALSE, Reason.SUSPENDED)


def test_the_transition_time_changes_only_with_the_status() -> None:
    first = build_conditions(None, {READY: true_condition("a")}, generation=1, now=NOW)
    same = build_conditions(first, {READY: true_condition("b", Reason.SHARED_LANE)}, generation=2, now=LATER)
    other = build_conditions(same, {READY: false_condition(Reason.API_UNAVAILABLE, "c")}, generation=2, now=LATER)
    assert [entry[0]["lastTransitionTime"] for entry in (first, same, other)] == [
        "2026-11-25T12:00:00Z",
        "2026-11-25T12:00:00Z",
        "2026-11-25T12:01:00Z",
    ]
    assert (same[0]["reason"], same[0]["message"], same[0]["observedGeneration"]) == ("SharedLane", "b", 2)


def test_conditions_that_are_not_updated_stay_as_they_were() -> None:
    all_true = {kind: true_condition(".") for kind in (ConditionType.STREAMS, READY, ConditionType.QUOTA)}
    first = build_conditions(None, all_true, generation=1, now=NOW)
    assert [entry["type"] for entry in first] == ["Ready", "QuotaApplied", "StreamsReady"]
    second = build_conditions(first, {READY: false_condition(Reason.API_UNAVAILABLE, "x")}, generation=2, now=LATER)
    assert second[1:] == first[1:]


def test_fields_set_to_none_are_removed_and_other_fields_stay() -> None:
    update = StatusUpdate(fields={"lane": "premium", "apiKey": None})
    status = build_status({"apiKey": {"keyId": "x"}, "clientId": "c"}, update, generation=3, now=NOW)
    assert status == {"clientId": "c", "lane": "premium", "observedGeneration": 3, "conditions": []}


def test_usage_changes_at_most_every_five_minutes_and_only_with_a_number() -> None:
    def usage(images: int) -> dict[str, int]:
        return {"storage_bytes": 1, "images": images, "ai_calls_this_month": 0}

    first = build_usage(None, usage(1), NOW)
    assert first == {"storageBytes": 1, "images": 1, "aiCallsThisMonth": 0, "observedAt": "2026-11-25T12:00:00Z"}
    assert build_usage(first, usage(2), NOW + timedelta(seconds=299)) == first
    assert build_usage(first, usage(1), NOW + timedelta(hours=9)) == first
    changed = build_usage(first, usage(2), NOW + timedelta(seconds=301))
    assert changed is not None
    assert changed["images"] == 2


json_values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=2), json_values, max_size=4)


def applied(target: Any, patch: Any) -> Any:
    """Apply a merge patch, by the pseudocode of RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = applied(result.get(name), value)
    return result


@given(objects, objects)
def test_a_merge_patch_turns_one_object_into_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = merge_patch(old, new)
    assert applied(old, patch) == new
    assert bool(patch) == (old != new)
