"""Months and costs of AI calls."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from imago.core.ai_usage.model import AiUsage, month_of, next_month


@pytest.mark.parametrize(
    ("moment", "month", "begins"),
    [
        (datetime(2026, 11, 25, tzinfo=UTC), "2026-11", datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), "2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        # Still November in UTC.
        (datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2026-11", datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_months_are_those_of_utc(moment: datetime, month: str, begins: datetime) -> None:
    assert (month_of(moment), next_month(moment)) == (month, begins)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (AiUsage(), 0.0),
        (AiUsage(2, 10, 10, 1_500_000, 0), 1.5),
        (AiUsage(2, 10, 10, 1_500_000, 1), 1.5),
        (AiUsage(2, 10, 10, 0, 2), None),
    ],
)
def test_an_unknown_cost_is_none_and_not_zero(usage: AiUsage, cost: float | None) -> None:
    assert usage.cost_usd == cost
