"""Read a page: with one engine, or with a second one where the first reads little of what the detector found.

The flow and its thresholds are explained in docs/adr/0010-a-text-detector-before-ocr.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.core.images.ocr.result import RecognizedWord, is_text, mean_confidence
from imago.imaging.ocr import paddle, tesseract
from imago.imaging.ocr.finding import find_lines_again
from imago.imaging.ocr.options import OcrOptions
from imago.imaging.ocr.paddle import Quads
from imago.imaging.ocr.reading_order import joined_rows
from imago.imaging.ocr.straightening import Page, part_with_text, straighten
from imago.imaging.ocr.unread import unread_share

# A reading is good from these on; below them the second engine reads the page too.
_GOOD_CONFIDENCE = 0.9
_GOOD_UNREAD = 0.04

# Two readings of a page confirm each other if they share this part of their words.
_AGREEMENT = 0.9

# The longest lines show which way up a page is.
_SAMPLED_LINES = 3
# A part of a line is enough, in its heights.
_SAMPLED_RATIO = 8.0
_UPSIDE_DOWN = Image.Transpose.ROTATE_180
# An upside-down line scores about 0.5, a line of the right way up above 0.9.
_CLEARLY = 0.05


@dataclass(frozen=True)
class EngineWords:
    """The words that an engine read, with their boxes in the picture, and the share 0..1 of lines it left unread.

    `is_doubtful` says that the page was read by two engines, which disagree.
    """

    engine: str
    words: tuple[RecognizedWord, ...]
    unread: float = 0.0
    is_doubtful: bool = False

    @property
    def is_good(self) -> bool:
        """Whether no other engine needs to read the page."""
        return is_text(self.words) and mean_confidence(self.words) >= _GOOD_CONFIDENCE and self.unread <= _GOOD_UNREAD


@dataclass(frozen=True)
class PageReading:
    """The readings of a page, the first engine's first, and the straightened image that they were read from."""

    readings: tuple[EngineWords, ...]
    image: Image.Image


def read_page(picture: Image.Image, quads: Quads, options: OcrOptions) -> PageReading:
    """Read an upright gray picture, in which the detector found lines; without any the picture is read as it is."""
    if not len(quads):
        return PageReading((_read(Page.of(picture), quads, options, options.engine),), picture)
    if part_with_text(quads, picture.size) is not None:
        # The detector has seen a small copy. Before the rest of a picture is left out, it looks again.
        quads = find_lines_again(picture)
        if not len(quads):
            return PageReading((), picture)
    page, is_ambiguous = straighten(picture, quads)
    if is_ambiguous:
        page = _right_way_up(page, quads)
    engine = "tesserocr" if options.engine == "auto" else options.engine
    first = _read(page, quads, options, engine)
    if first.is_good:
        return PageReading((first,), page.image)
    if not is_ambiguous and (turned := _right_way_up(page, quads)) is not page:
        page = turned
        first = _read(page, quads, options, engine)
    if options.engine != "auto" or first.is_good:
        return PageReading((first,), page.image)
    second = _read(page, quads, options, paddle.ENGINE)
    doubts = agreement(first.words, second.words) < _AGREEMENT
    return PageReading(tuple(replace(read, is_doubtful=doubts) for read in (first, second)), page.image)


def agreement(first: Sequence[RecognizedWord], second: Sequence[RecognizedWord]) -> float:
    """Return the share 0..1 of words that two readings have in common, without regard to case (Dice's coefficient)."""
    left, right = (Counter(word.text.casefold() for word in words) for words in (first, second))
    return 2 * (left & right).total() / max(left.total() + right.total(), 1)


def _read(page: Page, quads: Quads, options: OcrOptions, engine: str) -> EngineWords:
    if engine == paddle.ENGINE:
        words = paddle.read_words(page.image)
    else:
        words = joined_rows(tesseract.read_words(page.image, replace(options, engine=engine)))
    unread = unread_share(page.quads_of(quads), words)
    placed = tuple(replace(word, box=page.box_in_picture(word.box)) if word.box else word for word in words)
    return EngineWords(engine, placed, unread)


def _right_way_up(page: Page, quads: Quads) -> Page:
    """Return the page, or the page turned by 180° if its longest lines read better then."""
    level = page.quads_of(quads)
    low, high = level.min(axis=1), level.max(axis=1)
    longest = np.argsort(low[:, 0] - high[:, 0])[:_SAMPLED_LINES]
    lines = [_sample(page, low[index], high[index]) for index in longest]
    scores = [paddle.mean_score(images) for images in (lines, [line.transpose(_UPSIDE_DOWN) for line in lines])]
    return page.turned(2) if scores[1] > scores[0] + _CLEARLY else page


def _sample(page: Page, low: NDArray[np.float64], high: NDArray[np.float64]) -> Image.Image:
    """Return the beginning of a line."""
    width = min(high[0] - low[0], _SAMPLED_RATIO * (high[1] - low[1]))
    return page.cropped((low[0], low[1], low[0] + width, high[1])).image
