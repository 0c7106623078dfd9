"""Limits of clients: their plan's, and what overrides them."""

from imago.core.clients.model import PLAN_LIMITS, Plan


def test_an_override_replaces_a_limit_and_none_keeps_the_plans() -> None:
    plan = PLAN_LIMITS[Plan.FREE]
    limits = plan.overridden({"images": 7, "burst": None})
    assert (limits.images, limits.burst) == (7, plan.burst)
    assert limits.storage_bytes == plan.storage_bytes
