"""What becomes of the words that an OCR engine read: a text, a confidence, and whether there is text at all.

Photographs without any text give Tesseract a few "words" in foliage, brickwork and fabric. They are short, made of
punctuation, and it is unsure of them. So a reading counts as text when, of the words it is sure of, there is at least
one that looks like a word, and when the words it is sure of are not outnumbered by those it guessed.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imago.core.images.results import OcrReading, OcrResult

MAX_TEXT = 200_000

# Tesseract is seldom below 0.8 on words that are there and seldom above 0.6 on those that aren't; the numbers were
# chosen on the photos and pages of tests/integration/imaging/test_ocr_accuracy.py.
SURE = 0.70
# A lone word must be longer and surer than one among others: "Il" and "ee" are found in any fence.
LONE_SURE = 0.85
LONE_LENGTH = 4
FEW_WORDS = 3
# The share of the letters that must be in words it is sure of.
SURE_SHARE = 0.5


@dataclass(frozen=True)
class Word:
    """A word as an engine read it, its confidence 0..1, and whether a line or paragraph begins with it."""

    text: str
    confidence: float
    starts_line: bool = False
    starts_paragraph: bool = False

    @property
    def letters(self) -> int:
        """How many letters and digits it has."""
        return sum(char.isalnum() for char in self.text)

    @property
    def wordlike(self) -> bool:
        """Whether it has two letters or digits at least, and hardly anything else."""
        return self.letters >= 2 and self.letters >= 0.6 * len(self.text)


def reading_of(
    words: Sequence[Word], *, engine: str, language_of: Callable[[str], str | None] = lambda _: None
) -> OcrReading:
    """Put words together to a reading; without text its `text` is empty and its confidence tells of what was there."""
    confidence = mean_confidence(words)
    if not is_text(words):
        return OcrReading(False, "", None, confidence, engine)
    text = joined(words)
    return OcrReading(True, text, language_of(text), confidence, engine)


def mean_confidence(words: Sequence[Word]) -> float:
    """Return the words' mean confidence, 0..1, each word weighing as many as it has letters; 0 without any."""
    weights = [max(1, word.letters) for word in words]
    if not weights:
        return 0.0
    total = sum(word.confidence * weight for word, weight in zip(words, weights, strict=True))
    return round(min(max(total / sum(weights), 0.0), 1.0), 4)


def is_text(words: Sequence[Word]) -> bool:
    """Decide whether words were read off a text, or into a texture."""
    sure = [word for word in words if word.wordlike and word.confidence >= SURE]
    letters = sum(word.letters for word in words)
    if not sure or sum(word.letters for word in sure) < SURE_SHARE * letters:
        return False
    if len(sure) < FEW_WORDS:
        return any(word.letters >= LONE_LENGTH and word.confidence >= LONE_SURE for word in sure)
    return any(word.letters >= 3 for word in sure)


def joined(words: Sequence[Word]) -> str:
    """Return the words as a text: lines by newlines, paragraphs by empty lines; no control characters."""
    parts: list[str] = []
    for word in words:
        if parts:
            parts.append("\n\n" if word.starts_paragraph else "\n" if word.starts_line else " ")
        parts.append("".join(char for char in word.text if unicodedata.category(char)[0] != "C"))
    return unicodedata.normalize("NFC", "".join(parts))[:MAX_TEXT].strip()


def choose(readings: Sequence[OcrReading]) -> OcrResult:
    """Choose the better of several readings of one page, and keep them all; the first is the main engine's.

    Two engines' confidences are on no common scale, so confidence alone doesn't decide: a reading counts by its
    confidence times the letters it holds, which is how many letters are likely right.
    """
    best = max(readings, key=lambda reading: _likely_letters(reading) if reading.has_text else -1.0)
    return OcrResult(best, tuple(readings))


def _likely_letters(reading: OcrReading) -> float:
    return reading.confidence * sum(char.isalnum() for char in reading.text)
