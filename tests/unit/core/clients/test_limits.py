"""Limits of clients: their plan's, and what overrides them."""

from imago.core.clients.model import PLAN_LIMITS, Plan


def test_an_override_replaces_a_limit_and_none_keeps_the_plans() -> None:
    plan = PLAN_LIMITS[Plan.FREE]
    limits = plan.overridden({"images": 7, "burst": None})
    assert (limits.images, limits.burst) == (7, plan.burst)
    assert limits.storage_bytes == plan.storage_bytes


def test_the_plans_have_the_documented_limits() -> None:
    free, standard, premium = (PLAN_LIMITS[plan] for plan in (Plan.FREE, Plan.STANDARD, Plan.PREMIUM))
    assert (free.requests_per_minute, free.burst, free.storage_bytes, free.images) == (60, 20, 2**30, 1000)
    assert (standard.requests_per_minute, standard.burst, standard.images) == (600, 100, 100_000)
    assert (premium.requests_per_minute, premium.burst, premium.storage_bytes) == (6000, 1000, 2**40)
