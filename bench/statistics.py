"""Medians with their spread, and ratios of interleaved measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Sample:
    """One figure, measured in several rounds."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a sample needs at least one value")

    @property
    def median(self) -> float:
        """The middle of the values."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The lower quartile; the minimum of fewer than four values."""
        return quantiles(self.values, n=4, method="inclusive")[0] if len(self.values) > 3 else min(self.values)

    @property
    def high(self) -> float:
        """The upper quartile; the maximum of fewer than four values."""
        return quantiles(self.values, n=4, method="inclusive")[2] if len(self.values) > 3 else max(self.values)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Sample:
    """Return the ratio of each round, which cancels the load of the machine during that round."""
    return Sample(tuple(above / below for above, below in zip(numerators, denominators, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile for `share` (0..1); raise ValueError if there are no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def character_error_rate(truth: str, reading: str) -> float:
    """Return the edit distance (Levenshtein) over the length of the truth, with whitespace folded."""
    expected, got = " ".join(truth.split()), " ".join(reading.split())
    if not expected:
        return 0.0 if not got else 1.0
    row = list(range(len(got) + 1))
    for index, correct in enumerate(expected, start=1):
        before, row[0] = row[0], index
        for column, char in enumerate(got, start=1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (correct != char))
    return row[-1] / len(expected)
