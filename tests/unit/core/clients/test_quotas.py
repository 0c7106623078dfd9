"""Quotas: the check before an upload and its error."""

import pytest

from imago.core.clients.model import PLAN_LIMITS, Limits, Plan, Usage
from imago.core.clients.quotas import quota_exceeded, require_quota_left
from imago.core.errors import QuotaExceeded

LIMITS = Limits(60, 20, 1000, 10, 500)


def test_the_error_contains_the_numbers() -> None:
    problem = quota_exceeded(Usage(100, 3), PLAN_LIMITS[Plan.FREE], needed_bytes=7)
    assert problem.extra["storage_used_bytes"] == 100
    assert problem.extra["needed_bytes"] == 7


@pytest.mark.parametrize(("usage", "exceeded"), [(Usage(1000, 1), "storage"), (Usage(1, 10), "images")])
def test_an_upload_without_any_quota_left_is_refused_and_the_error_names_the_quota(usage: Usage, exceeded: str) -> None:
    with pytest.raises(QuotaExceeded, match=f"{exceeded} quota"):
        require_quota_left(usage, LIMITS)


def test_one_byte_of_quota_is_enough_to_start_an_upload() -> None:
    require_quota_left(Usage(999, 9), LIMITS)
