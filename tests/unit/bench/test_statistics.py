"""Medians, spreads, ratios and error rates of the benchmark."""

import pytest

from bench.statistics import Sample, character_error_rate, percentile, ratio


def test_a_sample_is_summarized_by_its_median_and_quartiles() -> None:
    sample = Sample((5.0, 1.0, 3.0, 2.0, 100.0))
    assert (sample.low, sample.median, sample.high) == (2.0, 3.0, 5.0)


def test_a_small_sample_is_summarized_by_its_extremes() -> None:
    sample = Sample((3.0, 1.0, 2.0))
    assert (sample.low, sample.median, sample.high) == (1.0, 2.0, 3.0)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Sample(())


def test_ratios_are_taken_round_by_round() -> None:
    # Both systems were twice as slow in the second round, which must not change the ratios.
    assert ratio([8.0, 4.0, 8.0], [2.0, 1.0, 4.0]).values == (4.0, 4.0, 2.0)


def test_ratios_of_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.95, 5.0), (1.0, 5.0)])
def test_percentiles(share: float, expected: float) -> None:
    assert percentile([5.0, 3.0, 1.0, 4.0, 2.0], share) == expected


@pytest.mark.parametrize(
    ("truth", "reading", "expected"),
    [
        ("abcd", "abcd", 0.0),
        ("abcd", "abxd", 0.25),
        ("abcd", "abd", 0.25),
        ("abcd", "abccd", 0.25),
        ("abcd", "", 1.0),
        ("a  b\nc d", " a b c d ", 0.0),
        ("", "", 0.0),
        ("", "x", 1.0),
        ("kitten", "sitting", 0.5),
    ],
)
def test_the_character_error_rate_is_the_edit_distance_over_the_truth(
    truth: str, reading: str, expected: float
) -> None:
    assert character_error_rate(truth, reading) == pytest.approx(expected)
