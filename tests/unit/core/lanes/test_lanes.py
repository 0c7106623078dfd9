"""Lanes: their names, the order in which they are served, and the setting of a worker."""

from uuid import uuid4

import pytest

from imago.core.lanes.chooser import LaneChooser
from imago.core.lanes.model import is_lane, lane_label, resolve_lane
from imago.core.lanes.worker_lanes import WorkerLanes


def test_premium_is_served_first_and_standard_gets_one_choice_in_eight() -> None:
    chooser = LaneChooser()
    choices = [chooser.choose(["standard", "premium"]) for _ in range(80)]
    assert choices.count("standard") == 10
    assert choices[:7] == ["premium"] * 7


def test_a_dedicated_lane_takes_turns_with_premium_and_no_lane_starves() -> None:
    chooser, own = LaneChooser(), uuid4().hex
    choices = [chooser.choose(["standard", "premium", own]) for _ in range(80)]
    assert {lane: choices.count(lane) for lane in ("standard", "premium", own)} == {
        "standard": 10,
        "premium": 35,
        own: 35,
    }


def test_a_lane_is_shared_or_a_clients_uuid_and_dedicated_lanes_share_a_label() -> None:
    own = uuid4().hex
    assert all(is_lane(name) for name in ("standard", "premium", own))
    assert not any(is_lane(name) for name in ("dedicated", "", "nonsense", own.upper()))
    assert [lane_label(lane) for lane in ("premium", own)] == ["premium", "dedicated"]


def test_a_client_gets_its_plans_lane_a_shared_lane_or_its_own_but_not_another_clients() -> None:
    client = uuid4()
    lanes = [resolve_lane(choice, plan_lane="premium", client=client) for choice in ("", "standard", "dedicated")]
    assert lanes == ["premium", "standard", client.hex]
    with pytest.raises(ValueError):
        resolve_lane(uuid4().hex, plan_lane="premium", client=client)


def test_worker_lanes_keep_their_order_and_unknown_lanes_are_rejected() -> None:
    lanes = WorkerLanes.parse("premium, standard,*")
    assert (lanes.named, lanes.any_dedicated) == (("premium", "standard"), True)
    for wrong in ("premum", "", "standard,>"):
        with pytest.raises(ValueError):
            WorkerLanes.parse(wrong)
