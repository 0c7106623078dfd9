"""The quality of read text: character error rate, word F1, and what its confidence is worth."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from imago.evaluation.answers import ImageAnswer
from imago.evaluation.labels import ImageLabels

ALL = "all"

# A reading of this confidence is trusted without looking at it, so its error should be at most this.
CONFIDENT = 0.9
ACCEPTABLE_ERROR = 0.05

# Spellings that a reader does not tell apart: quotes, hyphens and dashes.
_SAME = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "–": "-", "—": "-", "‐": "-", "…": "..."})


@dataclass(frozen=True)
class Reading:
    """The scores of one image: the error is at most 1."""

    kinds: tuple[str, ...]
    error: float
    word_f1: float
    confidence: float


@dataclass(frozen=True)
class TextScores:
    """The means over the images of one kind."""

    kind: str
    images: int
    error: float
    word_f1: float
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """How many readings are confident, and the share of them whose error is acceptable."""

    confident: int
    right: float | None


def edit_distance(left: str, right: str) -> int:
    """Return the Levenshtein distance.

    This is the bit-parallel algorithm of Myers (1999) as simplified by Hyyrö (2001): column by column, `up` and `down`
    have a bit for each row whose value is one more, or one less, than that of the row above.
    """
    if not left:
        return len(right)
    rows: dict[str, int] = {}
    for row, letter in enumerate(left):
        rows[letter] = rows.get(letter, 0) | 1 << row
    everything, last = (1 << len(left)) - 1, 1 << (len(left) - 1)
    up, down, distance = everything, 0, len(left)
    for letter in right:
        equal = rows.get(letter, 0)
        diagonal = (((equal & up) + up) ^ up) | equal | down
        more, less = down | (everything & ~(diagonal | up)), up & diagonal
        distance += bool(more & last) - bool(less & last)
        more = (more << 1 | 1) & everything
        up = (less << 1 & everything) | (everything & ~(equal | down | more))
        down = more & (equal | down)
    return distance


def character_error_rate(truth: str, read: str) -> float:
    """Return the edit distance as a share of the truth's length, at most 1."""
    if not truth:
        return float(bool(read))
    return min(1.0, edit_distance(truth, read) / len(truth))


def word_f1(truth: str, read: str) -> float:
    """Return the harmonic mean of precision and recall of the words, in any order."""
    expected, found = Counter(truth.split()), Counter(read.split())
    if not expected or not found:
        return float(expected == found)
    return 2 * (expected & found).total() / (expected.total() + found.total())


def comparable(text: str, *, ignore_case: bool = False) -> str:
    """Return the text with single spaces and without differences that readers do not see."""
    plain = " ".join(unicodedata.normalize("NFC", text).translate(_SAME).split())
    return plain.casefold() if ignore_case else plain


def score_reading(labels: ImageLabels, answer: ImageAnswer) -> Reading:
    """Compare a reading with the text of the labels."""
    truth = comparable(labels.text or "", ignore_case=labels.ignore_case)
    read = comparable(answer.text, ignore_case=labels.ignore_case)
    kinds = (labels.kind, *([f"language {labels.language}"] if labels.language else []))
    return Reading(kinds, character_error_rate(truth, read), word_f1(truth, read), answer.confidence)


def score_texts(
    images: Mapping[str, ImageLabels], answers: Mapping[str, ImageAnswer]
) -> tuple[list[TextScores], Calibration] | None:
    """Return the scores by kind, of all images, and the calibration; None without texts in the labels."""
    readings = [score_reading(labels, answers[file]) for file, labels in images.items() if labels.text is not None]
    if not readings:
        return None
    kinds = dict.fromkeys((*(reading.kinds[0] for reading in readings), ALL))
    kinds.update(dict.fromkeys(kind for reading in readings for kind in reading.kinds))
    scores = [_means(kind, [it for it in readings if kind in (ALL, *it.kinds)]) for kind in kinds]
    return scores, _calibration(readings)


def _means(kind: str, readings: list[Reading]) -> TextScores:
    return TextScores(
        kind,
        len(readings),
        fmean(reading.error for reading in readings),
        fmean(reading.word_f1 for reading in readings),
        fmean(reading.confidence for reading in readings),
    )


def _calibration(readings: Iterable[Reading]) -> Calibration:
    confident = [reading for reading in readings if reading.confidence >= CONFIDENT]
    right = [reading for reading in confident if reading.error <= ACCEPTABLE_ERROR]
    return Calibration(len(confident), len(right) / len(confident) if confident else None)
