"""The rules of KEDA and the HPA in the simulator."""

import itertools

import pytest

from bench.keda import Autoscaler, Scaling, allowed, desired

TEN = Scaling(target=10, most=20)


@pytest.mark.parametrize(
    ("lag", "present", "expected"),
    [
        (0, 1, 0),
        (1, 1, 1),
        (10, 1, 1),
        (10.9, 1, 1),  # Within the tolerance of 10 %.
        (12, 1, 2),
        (100, 10, 10),
        (109, 10, 10),
        (95, 10, 10),
        (85, 10, 9),
        (1000, 10, 100),
    ],
)
def test_the_hpa_requests_the_lag_over_the_target_rounded_up_outside_its_tolerance(
    lag: float, present: int, expected: int
) -> None:
    assert desired(lag, present, TEN) == expected


@pytest.mark.parametrize(("present", "expected"), [(1, 5), (4, 8), (5, 10), (40, 80)])
def test_a_step_up_doubles_or_adds_four(present: int, expected: int) -> None:
    assert allowed(present) == expected


def history_of(scaling: Scaling, lags: list[float]) -> list[tuple[int, int]]:
    """Return the replicas and ready replicas of each second."""
    scaler, history = Autoscaler(scaling), []
    for now, lag in enumerate(lags):
        ready = scaler.step(now, lag)
        history.append((scaler.replicas, ready))
    return history


def test_nothing_runs_without_messages() -> None:
    assert set(history_of(TEN, [0.0] * 600)) == {(0, 0)}


def test_a_poll_notices_the_first_message_and_its_pod_is_ready_after_the_start_time() -> None:
    history = history_of(TEN, [0.0] + [1.0] * 120)
    first_wanted = next(second for second, (replicas, _) in enumerate(history) if replicas)
    first_ready = next(second for second, (_, ready) in enumerate(history) if ready)
    assert first_wanted == TEN.polling
    assert first_ready == first_wanted + TEN.start


def test_replicas_never_exceed_the_maximum_nor_grow_faster_than_the_policy() -> None:
    history = [replicas for replicas, _ in history_of(TEN, [100_000.0] * 600)]
    assert max(history) == TEN.most
    assert all(after <= allowed(before) or before == 0 for before, after in itertools.pairwise(history))


def test_replicas_stay_for_five_minutes_after_the_last_recommendation() -> None:
    history = [replicas for replicas, _ in history_of(TEN, [100.0] * 120 + [5.0] * 600)]
    assert history[119] == 10
    assert history[119 + 280] == 10
    assert history[119 + 330] == 1


def test_the_last_replica_ends_after_the_cooldown_unless_a_minimum_is_set() -> None:
    lags = [5.0] * 60 + [0.0] * 600
    assert history_of(TEN, lags)[-1] == (0, 0)
    assert history_of(Scaling(target=10, least=1), lags)[-1] == (1, 1)


def test_minimum_replicas_are_ready_from_the_start() -> None:
    assert history_of(Scaling(target=10, least=1), [0.0])[0] == (1, 1)
