"""The pace of a job: how many images it may queue now."""

from datetime import datetime, timedelta

# After a pause of the runner, a job catches up at most this much of its rate.
CATCH_UP = timedelta(seconds=10)
# A job waits while so many of its images are unfinished, or as many as it queues in a minute if that is more. Workers
# that are slower than the rate therefore do not make a backlog.
MIN_UNFINISHED = 100


def allowed_images(now: datetime, *, next_at: datetime, images_per_minute: int) -> int:
    """Return how many images are due at `now` if the next one is due at `next_at`."""
    start = max(next_at, now - CATCH_UP)
    if start > now:
        return 0
    return int((now - start) / _spacing(images_per_minute)) + 1


def following(now: datetime, *, next_at: datetime, images_per_minute: int) -> datetime:
    """Return when the image after the one that is queued at `now` is due."""
    return max(next_at, now - CATCH_UP) + _spacing(images_per_minute)


def unfinished_limit(images_per_minute: int) -> int:
    """Return how many queued images of a job may be unfinished."""
    return max(MIN_UNFINISHED, images_per_minute)


def _spacing(images_per_minute: int) -> timedelta:
    return timedelta(minutes=1) / images_per_minute
