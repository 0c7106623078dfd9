"""Turn the words that an OCR engine recognized into a reading: whether there is text, the text, and a confidence.

In photographs without any text Tesseract finds a few "words" in foliage, brickwork and fabric. They are short, full of
punctuation, and have a low confidence. So a reading counts as text if at least one confident word looks like a word,
and if the confident words hold at least half of all letters.
"""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from imago.core.images.results import OcrReading, OcrResult
from imago.core.text.languages import detect_language

MAX_TEXT = 200_000

# Tesseract is seldom below 0.8 on words that exist and seldom above 0.6 on words that don't. The thresholds were chosen
# on the photos and pages of tests/integration/imaging/ocr/test_ocr_accuracy.py.
MIN_CONFIDENCE = 0.70
# With fewer confident words than this, one must be longer and more confident: "Il" and "ee" are found in any fence.
FEW_WORDS = 3
FEW_WORDS_MIN_CONFIDENCE = 0.85
FEW_WORDS_MIN_LETTERS = 4
# The share of all letters that must be in confident words.
MIN_CONFIDENT_SHARE = 0.5

# At this confidence most of the words that an engine says are wrong.
_WORTHLESS = 0.5
_CREDIT = 0.25

# The longest side of a page for OCR in pixels: an A4 page at 400 dots per inch. Larger text is not recognized better.
OCR_SIDE = 4700


Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


@dataclass(frozen=True)
class RecognizedWord:
    """A word as an engine read it, its confidence 0..1, and whether it is the first of a line or paragraph.

    `box` is its place on the page, or later in the picture.
    """

    text: str
    confidence: float
    starts_line: bool = False
    starts_paragraph: bool = False
    box: Box | None = None

    @property
    def letters(self) -> int:
        """The number of letters and digits."""
        return sum(char.isalnum() for char in self.text)

    @property
    def looks_like_word(self) -> bool:
        """Whether it has at least two letters or digits, and few other characters."""
        return self.letters >= 2 and self.letters >= 0.6 * len(self.text)


def build_reading(
    words: Sequence[RecognizedWord], *, engine: str, expected_languages: Collection[str] = (), unread: float = 0.0
) -> OcrReading:
    """Return the reading of an engine's words. Without text its `text` is empty, but it keeps the words' confidence.

    `unread` is the share 0..1 of the lines of text that the engine left out, which lowers the confidence.
    """
    confidence = round(mean_confidence(words) * (1 - unread), 4)
    if not is_text(words):
        return OcrReading(False, "", None, confidence, engine)
    text = join_words(words)
    return OcrReading(True, text, detect_language(text, expected=expected_languages), confidence, engine)


def build_reading_of_pages(
    pages: Sequence[Sequence[RecognizedWord]],
    *,
    engine: str,
    expected_languages: Collection[str] = (),
    unread: float = 0.0,
) -> OcrReading:
    """Return the reading of the words of each page. Pages without text add nothing to that of the others."""
    found = [words for words in pages if is_text(words)]
    first_words = [replace(words[0], starts_paragraph=True) for words in found]
    words = [word for first, rest in zip(first_words, found, strict=True) for word in (first, *rest[1:])]
    if not words:
        words = [word for page in pages for word in page]
        confidence = round(mean_confidence(words) * (1 - unread), 4)
        return OcrReading(False, "", None, confidence, engine, pages=len(pages))
    reading = build_reading(words, engine=engine, expected_languages=expected_languages, unread=unread)
    return replace(reading, pages=len(pages))


def mean_confidence(words: Sequence[RecognizedWord]) -> float:
    """Return the mean confidence of the words, 0..1, weighted by their letters; 0 without any word."""
    weights = [max(1, word.letters) for word in words]
    if not weights:
        return 0.0
    total = sum(word.confidence * weight for word, weight in zip(words, weights, strict=True))
    return round(min(max(total / sum(weights), 0.0), 1.0), 4)


def is_text(words: Sequence[RecognizedWord]) -> bool:
    """Return whether the words were read from a text, not from a texture."""
    confident = [word for word in words if word.looks_like_word and word.confidence >= MIN_CONFIDENCE]
    letters = sum(word.letters for word in words)
    if not confident or sum(word.letters for word in confident) < MIN_CONFIDENT_SHARE * letters:
        return False
    if len(confident) < FEW_WORDS:
        return any(
            word.letters >= FEW_WORDS_MIN_LETTERS and word.confidence >= FEW_WORDS_MIN_CONFIDENCE for word in confident
        )
    return any(word.letters >= 3 for word in confident)


def join_words(words: Sequence[RecognizedWord]) -> str:
    """Return the words as a text without control characters, with an empty line between paragraphs."""
    parts: list[str] = []
    for word in words:
        if parts:
            parts.append("\n\n" if word.starts_paragraph else "\n" if word.starts_line else " ")
        parts.append(clean_word(word.text))
    return unicodedata.normalize("NFC", "".join(parts))[:MAX_TEXT].strip()


def clean_word(text: str) -> str:
    """Return the text of a word without control characters, in Unicode NFC."""
    return unicodedata.normalize("NFC", "".join(char for char in text if unicodedata.category(char)[0] != "C"))


def choose_reading(readings: Sequence[OcrReading]) -> OcrResult:
    """Choose the likeliest of several readings of one page, and keep all of them. The first one wins a tie.

    The confidence of a reading counts the lines that it left out. A reading that says much more than another one has
    some credit for it, because not every line was found before the reading.
    """
    best = max(readings, key=lambda reading: _likelihood(reading) if reading.has_text else -1.0)
    return OcrResult(best, tuple(readings))


def _likelihood(reading: OcrReading) -> float:
    letters = sum(char.isalnum() for char in reading.text)
    return max(reading.confidence - _WORTHLESS, 0.0) * float((1 + letters) ** _CREDIT)
