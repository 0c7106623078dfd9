"""Read the text of an image, or of the pages of a TIFF file."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from imago.core.images.ocr.result import (
    Box,
    build_reading,
    build_reading_of_pages,
    choose_reading,
)
from imago.core.images.ocr.words import PageWords, encode_words
from imago.core.images.results import OcrReading, OcrResult
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.files import TaskFile
from imago.imaging.ocr import paddle
from imago.imaging.ocr.document_reading import DocumentReading
from imago.imaging.ocr.finding import DecodedPage, decode_page
from imago.imaging.ocr.options import WITHOUT_DETECTOR, OcrOptions
from imago.imaging.ocr.page import EngineWords, read_page
from imago.imaging.pixels.opening import NoSuchPageError

# A reading of which two engines disagree is below 0.9 whatever they say: half of the readings of real receipts and
# signs that had 0.9 or more had more than 5 % of wrong characters.
_DOUBTED = 0.89


@dataclass(frozen=True)
class PageLimits:
    """The longest side of a page and its pixels before; how many pages are read, and the seconds until one begins."""

    max_side: int
    max_pixels: int
    max_pages: int
    seconds: float


@dataclass(frozen=True)
class _ReadPage:
    """A page, and the readings of it: none if it has no lines of text."""

    decoded: DecodedPage
    readings: tuple[EngineWords, ...]

    @cached_property
    def likeliest(self) -> EngineWords:
        if not self.readings:
            return EngineWords(paddle.ENGINE, ())
        if len(self.readings) == 1:
            return self.readings[0]
        built = [build_reading(words.words, engine=words.engine, unread=words.unread) for words in self.readings]
        return self.readings[built.index(choose_reading(built).chosen)]


def read_document(
    source: TaskFile, first_page: TaskFile, *, options: OcrOptions, limits: PageLimits
) -> DocumentReading:
    """Read up to `max_pages` pages as one text; write the first page, straightened, to `first_page` if it has text.

    Raises PermanentFailure if the first page can't be decoded, and what the engines raise.
    """
    if options.engine == "auto" and not paddle.is_installed():
        options = replace(options, engine="tesserocr")
    pages: list[_ReadPage] = []
    for number, page in _decoded_pages(source, options=options, limits=limits):
        if page.image is None:
            pages.append(_ReadPage(page, ()))
            continue
        read = read_page(page.image, page.quads, options)
        if number == 0:
            read.image.save(first_page, "PPM")
        scale = page.width / page.image.width
        pages.append(_ReadPage(page.without_pixels(), tuple(_in_original(words, scale) for words in read.readings)))
    return _document(pages, options)


def _decoded_pages(source: TaskFile, *, options: OcrOptions, limits: PageLimits) -> Iterator[tuple[int, DecodedPage]]:
    """Yield the pages and their numbers one after the other."""
    started = time.monotonic()
    finds_lines = options.engine not in WITHOUT_DETECTOR
    for number in range(limits.max_pages):
        if number and time.monotonic() - started > limits.seconds:
            return
        try:
            yield (
                number,
                decode_page(
                    source, max_side=limits.max_side, max_pixels=limits.max_pixels, page=number, finds_lines=finds_lines
                ),
            )
        except NoSuchPageError:
            return
        except PermanentFailure:
            if number == 0:
                raise
            # A page that can't be decoded does not cost the text of the others.


def _in_original(words: EngineWords, scale: float) -> EngineWords:
    """Return the words with their boxes in the pixels of the upright original."""
    return replace(words, words=tuple(replace(word, box=_scaled(word.box, scale)) for word in words.words))


def _scaled(box: Box | None, scale: float) -> Box | None:
    if box is None:
        return None
    left, top, right, bottom = box
    return left * scale, top * scale, right * scale, bottom * scale


def _document(pages: Sequence[_ReadPage], options: OcrOptions) -> DocumentReading:
    chosen = [page.likeliest for page in pages]
    engines = list(dict.fromkeys(words.engine for page in pages for words in page.readings)) or [paddle.ENGINE]
    readings = [
        _reading(engine, [words for page in pages for words in page.readings if words.engine == engine], options)
        for engine in engines
    ]
    if len(pages) > 1:
        used = dict.fromkeys(page.likeliest.engine for page in pages if page.readings)
        whole = _reading("+".join(used) or paddle.ENGINE, chosen, options)
        result = OcrResult(whole, tuple(readings if len(engines) > 1 else [whole]))
    else:
        result = choose_reading(readings)
    has_lines = any(page.readings and len(page.decoded.quads) > 0 for page in pages)
    return DocumentReading(_of_all_pages(result, pages), has_lines)


def _of_all_pages(result: OcrResult, pages: Sequence[_ReadPage]) -> OcrResult:
    truncated = any(page.decoded.truncated for page in pages)
    # The choice between the readings is made before: both of them are doubtful.
    trust = _DOUBTED if any(words.is_doubtful for page in pages for words in page.readings) else 1.0
    chosen, *readings = (
        replace(reading, pages=len(pages), truncated=truncated, confidence=round(trust * reading.confidence, 4))
        for reading in (result.chosen, *result.readings)
    )
    placed = [PageWords(page.decoded.width, page.decoded.height, page.likeliest.words) for page in pages]
    words = encode_words(chosen.engine, placed) if chosen.has_text else None
    return OcrResult(chosen, tuple(readings), words)


def _reading(engine: str, pages: Sequence[EngineWords], options: OcrOptions) -> OcrReading:
    unread = [words.unread for words in pages if words.words or words.unread]
    return build_reading_of_pages(
        [words.words for words in pages],
        engine=engine,
        expected_languages=options.languages,
        unread=fmean(unread) if unread else 0.0,
    )
