"""A job's pace: its rate from the first image on, a bounded catch-up, and a bounded backlog."""

from datetime import UTC, datetime, timedelta

import pytest

from imago.core.reprocessing.pace import CATCH_UP, allowed_images, following, unfinished_limit

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("rate", [1, 7, 60, 6000])
def test_a_job_queues_its_rate_and_no_more(rate: int) -> None:
    now, next_at, queued = NOW, NOW, 0
    for _ in range(600):
        for _ in range(allowed_images(now, next_at=next_at, images_per_minute=rate)):
            next_at = following(now, next_at=next_at, images_per_minute=rate)
            queued += 1
        now += timedelta(seconds=2)
    minutes = 600 * 2 / 60
    assert rate * minutes - rate / 10 <= queued <= rate * minutes + 1


def test_after_a_pause_a_job_catches_up_only_a_few_seconds() -> None:
    allowed = allowed_images(NOW, next_at=NOW - timedelta(hours=3), images_per_minute=600)
    assert allowed == CATCH_UP.total_seconds() * 10 + 1


def test_an_image_that_is_not_due_is_not_allowed() -> None:
    assert allowed_images(NOW, next_at=NOW + timedelta(milliseconds=1), images_per_minute=600) == 0


def test_the_limit_of_unfinished_images_follows_the_rate() -> None:
    assert (unfinished_limit(1), unfinished_limit(3000)) == (100, 3000)
