"""Status and conditions, from what a pass found."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from imago_operator.conditions import (
    FALSE,
    TRUE,
    UNKNOWN,
    Finding,
    Kind,
    Outcome,
    Reason,
    bad,
    build_conditions,
    build_status,
    build_usage,
    good,
    merge_patch,
    ready,
)

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def test_ready_names_the_first_part_that_fails() -> None:
    findings = {
        Kind.QUOTA: good("."),
        Kind.CREDENTIALS: bad(Reason.SECRET_CONFLICT, "move it"),
        Kind.STREAMS: bad(Reason.NATS_UNAVAILABLE, "away"),
    }
    assert ready(findings, suspended=False) == bad(Reason.SECRET_CONFLICT, "move it")


def test_ready_stays_true_while_a_lane_drains_or_another_serves_and_says_so() -> None:
    draining = {Kind.STREAMS: bad(Reason.LANE_DRAINING, "3 left")}
    assert ready(draining, suspended=False) == Finding(TRUE, Reason.LANE_DRAINING, "3 left")
    shared = {Kind.STREAMS: good("premium meanwhile", Reason.SHARED_LANE)}
    assert ready(shared, suspended=False) == Finding(TRUE, Reason.SHARED_LANE, "premium meanwhile")
    unknown = {Kind.STREAMS: Finding(UNKNOWN, Reason.NATS_UNAVAILABLE, "away")}
    assert ready(unknown, suspended=False).reason is Reason.RECONCILED


def test_a_suspended_client_is_not_ready() -> None:
    found = ready({}, suspended=True)
    assert (found.status, found.reason) == (FALSE, Reason.SUSPENDED)


def test_a_transitions_time_changes_with_the_status_alone() -> None:
    first = build_conditions(None, {Kind.READY: good("a")}, generation=1, now=NOW)
    same = build_conditions(first, {Kind.READY: good("b", Reason.SHARED_LANE)}, generation=2, now=LATER)
    other = build_conditions(same, {Kind.READY: bad(Reason.API_UNAVAILABLE, "c")}, generation=2, now=LATER)
    assert [entry[0]["lastTransitionTime"] for entry in (first, same, other)] == [
        "2026-11-25T12:00:00Z",
        "2026-11-25T12:00:00Z",
        "2026-11-25T12:01:00Z",
    ]
    assert (same[0]["reason"], same[0]["message"], same[0]["observedGeneration"]) == ("SharedLane", "b", 2)


def test_conditions_that_were_not_looked_at_stay_as_they_were() -> None:
    first = build_conditions(
        None, {Kind.STREAMS: good("s"), Kind.READY: good("r"), Kind.QUOTA: good("q")}, generation=1, now=NOW
    )
    assert [entry["type"] for entry in first] == ["Ready", "QuotaApplied", "StreamsReady"]
    again = build_conditions(first, {Kind.READY: bad(Reason.API_UNAVAILABLE, "x")}, generation=2, now=LATER)
    assert again[1:] == first[1:]


def test_facts_of_none_go_and_those_not_named_stay() -> None:
    outcome = Outcome(facts={"lane": "premium", "apiKey": None})
    status = build_status({"apiKey": {"keyId": "x"}, "clientId": "c"}, outcome, generation=3, now=NOW)
    assert status == {"clientId": "c", "lane": "premium", "observedGeneration": 3, "conditions": []}


def test_usage_is_written_every_five_minutes_at_most_and_only_when_it_changed() -> None:
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
    """Apply a merge patch, as RFC 7396 writes it down."""
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
