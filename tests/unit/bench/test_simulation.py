"""The simulated day."""

import pytest

from bench.keda import Scaling
from bench.simulation import DAY, Stage, arrivals, simulate

WARM = Scaling(target=10, least=1, most=10)


def test_a_day_has_about_the_requested_uploads_and_is_reproducible() -> None:
    day = arrivals(50_000, burst=0, burst_at=0, burst_seconds=0, seed=1)
    assert len(day) == DAY
    assert sum(day) == pytest.approx(50_000, rel=0.03)
    assert day == arrivals(50_000, burst=0, burst_at=0, burst_seconds=0, seed=1)


def test_the_afternoon_has_more_uploads_than_the_night() -> None:
    day = arrivals(50_000, burst=0, burst_at=0, burst_seconds=0, seed=1)
    night, afternoon = sum(day[3 * 3600 : 5 * 3600]), sum(day[15 * 3600 : 17 * 3600])
    assert afternoon > 5 * night


def test_a_burst_is_a_multiple_of_the_mean_rate() -> None:
    day = arrivals(86_400, burst=50, burst_at=1000, burst_seconds=100, seed=1)
    assert sum(day[1000:1100]) == pytest.approx(50 * 100, rel=0.05)
    assert sum(day[1100:1200]) < 300


def test_every_upload_is_done_once_and_after_its_arrival() -> None:
    uploads = [2] * 300
    lane = simulate(uploads, {"exif": Stage(0.05, WARM), "ocr": Stage(0.5, WARM)})
    assert len(lane.waits) == sum(uploads)
    assert min(lane.waits) >= 0


def test_an_idle_warm_stage_takes_no_longer_than_the_floor() -> None:
    lane = simulate([1, 0, 0, 0] * 100, {"exif": Stage(0.05, WARM)}, floor_seconds=0.2)
    assert lane.p(0.99) == pytest.approx(0.2)


def test_the_slowest_stage_decides_when_an_image_is_done() -> None:
    fixed = Scaling(target=10, least=1, most=1)
    # One replica takes two seconds per image, so a hundred concurrent images queue.
    lane = simulate([100], {"exif": Stage(0.01, fixed), "ocr": Stage(2.0, fixed)}, floor_seconds=0)
    assert max(lane.waits) == pytest.approx(200, abs=3)
    assert lane.p(0.5) == pytest.approx(100, abs=3)


def test_from_zero_the_first_upload_waits_for_a_poll_and_a_start() -> None:
    scaling = Scaling(target=10)
    lane = simulate([0, 1, *[0] * 100], {"ocr": Stage(0.5, scaling)}, floor_seconds=0)
    assert scaling.start < lane.waits[0] <= scaling.polling + scaling.start + 2


def test_more_replicas_shorten_the_day_of_a_burst() -> None:
    uploads = arrivals(20_000, burst=50, burst_at=600, burst_seconds=120, seed=3, seconds=3600)
    few = simulate(uploads, {"ocr": Stage(0.5, Scaling(target=10, most=4))})
    many = simulate(uploads, {"ocr": Stage(0.5, Scaling(target=10, most=20))})
    assert max(many.lag) < max(few.lag)
    assert many.p(0.95) < few.p(0.95) / 2


def test_a_stage_that_can_never_catch_up_is_an_error() -> None:
    with pytest.raises(ValueError, match="never catch up"):
        simulate([50] * 3600, {"ocr": Stage(100.0, Scaling(target=10, most=1))})
