"""OCR results: decide whether recognized words are text, join them, and choose between engines.

In photographs without text, Tesseract recognizes a few "words" in foliage, brickwork and fabric: short, mostly
punctuation, and with low confidence. So a reading counts as text only if at least one confident word looks like a word,
and if the confident words outweigh the uncertain ones.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imago.core.images.results import OcrReading, OcrResult

MAX_TEXT = 200_000

# Tesseract's confidence is seldom below 0.8 for real words and seldom above 0.6 for false ones. These thresholds were
# chosen with the photos and pages of tests/integration/imaging/test_ocr_accuracy.py.
CONFIDENT = 0.70
# A single word must be longer and more certain: "Il" and "ee" are found in any fence.
SINGLE_CONFIDENT = 0.85
SINGLE_LENGTH = 4
FEW_WORDS = 3
# The share of all letters that must be in confident words.
CONFIDENT_SHARE = 0.5


@dataclass(frozen=True)
class Word:
    """A recognized word, its confidence (0..1), and whether it starts a line or a paragraph."""

    text: str
    confidence: float
    starts_line: bool = False
    starts_paragraph: bool = False

    @property
    def letters(self) -> int:
        """The number of letters and digits."""
        return sum(char.isalnum() for char in self.text)

    @property
    def wordlike(self) -> bool:
        """Whether it has at least two letters or digits and hardly anything else."""
        return self.letters >= 2 and self.letters >= 0.6 * len(self.text)


def reading_of(
    words: Sequence[Word], *, engine: str, language_of: Callable[[str], str | None] = lambda _: None
) -> OcrReading:
    """Return a reading of the words; if they are not text, `text` is empty and the confidence is that of the words."""
    confidence = mean_confidence(words)
    if not is_text(words):
        return OcrReading(False, "", None, confidence, engine)
    text = joined(words)
    return OcrReading(True, text, language_of(text), confidence, engine)


def mean_confidence(words: Sequence[Word]) -> float:
    """Return the mean confidence of words (0..1), weighted by their letters; 0 without words."""
    weights = [max(1, word.letters) for word in words]
    if not weights:
        return 0.0
    total = sum(word.confidence * weight for word, weight in zip(words, weights, strict=True))
    return round(min(max(total / sum(weights), 0.0), 1.0), 4)


def is_text(words: Sequence[Word]) -> bool:
    """Return whether the words are text and not artefacts of a texture."""
    confident = [word for word in words if word.wordlike and word.confidence >= CONFIDENT]
    letters = sum(word.letters for word in words)
    if not confident or sum(word.letters for word in confident) < CONFIDENT_SHARE * letters:
        return False
    if len(confident) < FEW_WORDS:
        return any(word.letters >= SINGLE_LENGTH and word.confidence >= SINGLE_CONFIDENT for word in confident)
    return any(word.letters >= 3 for word in confident)


def joined(words: Sequence[Word]) -> str:
    """Return the words as text without control characters: newlines between lines, empty lines between paragraphs."""
    parts: list[str] = []
    for word in words:
        if parts:
            parts.append("\n\n" if word.starts_paragraph else "\n" if word.starts_line else " ")
        parts.append("".join(char for char in word.text if unicodedata.category(char)[0] != "C"))
    return unicodedata.normalize("NFC", "".join(parts))[:MAX_TEXT].strip()


def choose(readings: Sequence[OcrReading]) -> OcrResult:
    """Choose the best of several readings of one page; of equals, the first.

    The engines' confidences have no common scale, so the choice is by confidence times number of letters: the expected
    number of correct letters.
    """
    best = max(readings, key=lambda reading: _expected_letters(reading) if reading.has_text else -1.0)
    return OcrResult(best, tuple(readings))


def _expected_letters(reading: OcrReading) -> float:
    return reading.confidence * sum(char.isalnum() for char in reading.text)
