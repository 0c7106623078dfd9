"""Read the text of an image, or of the pages of a TIFF file."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from imago.core.images.ocr_result import (
    Box,
    RecognizedWord,
    build_reading,
    build_reading_of_pages,
    choose_reading,
)
from imago.core.images.results import OcrReading, OcrResult
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.files import TaskFile
from imago.imaging.ocr import paddle
from imago.imaging.ocr.finding import DecodedPage, decode_page
from imago.imaging.ocr.options import OcrOptions
from imago.imaging.ocr.page import EngineWords, read_page
from imago.imaging.pixels.opening import NoSuchPageError

# The engines that read the pages as they are, without a detector of lines.
_WITHOUT_DETECTOR = ("tesserocr", "pytesseract")


@dataclass(frozen=True)
class PageLimits:
    """The longest side of a page and its pixels before; how many pages are read, and the seconds until one begins."""

    max_side: int
    max_pixels: int
    max_pages: int
    seconds: float


@dataclass(frozen=True)
class DocumentReading:
    """The chosen reading and all others; the words of the chosen one by page, with boxes in the upright picture.

    `has_lines` says whether the detector found lines of text, which an engine may have left unread.
    """

    result: OcrResult
    words: tuple[tuple[RecognizedWord, ...], ...]
    has_lines: bool

    @property
    def chosen(self) -> OcrReading:
        """The chosen reading."""
        return self.result.chosen

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that a child process sends."""
        return {
            "result": self.result.to_json(),
            "words": [[asdict(word) for word in page] for page in self.words],
            "has_lines": self.has_lines,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "DocumentReading":
        """Return the reading from its JSON."""
        words = tuple(tuple(RecognizedWord(**word) for word in page) for page in data["words"])
        return cls(OcrResult.from_json(data["result"]), words, data["has_lines"])


def read_document(
    source: TaskFile, first_page: TaskFile, *, options: OcrOptions, limits: PageLimits
) -> DocumentReading:
    """Read up to `max_pages` pages as one text; write the first page, straightened, to `first_page` if it has text.

    Raises PermanentFailure if the first page can't be decoded, and what the engines raise.
    """
    if options.engine == "auto" and not paddle.is_installed():
        options = replace(options, engine="tesserocr")
    pages: list[tuple[EngineWords, ...]] = []
    truncated = False
    for number, page in _decoded_pages(source, options=options, limits=limits):
        truncated = truncated or page.truncated
        if page.image is None:
            pages.append(())
            continue
        read = read_page(page.image, page.quads, options)
        if number == 0:
            read.image.save(first_page, "PPM")
        pages.append(tuple(_in_original(words, page.scale) for words in read.readings))
    return _document(pages, options, truncated=truncated)


def _decoded_pages(source: TaskFile, *, options: OcrOptions, limits: PageLimits) -> Iterator[tuple[int, DecodedPage]]:
    """Yield the pages and their numbers one after the other."""
    started = time.monotonic()
    finds_lines = options.engine not in _WITHOUT_DETECTOR
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


def _document(pages: Sequence[tuple[EngineWords, ...]], options: OcrOptions, *, truncated: bool) -> DocumentReading:
    chosen = [_likeliest(readings) if readings else EngineWords(paddle.ENGINE, ()) for readings in pages]
    engines = list(dict.fromkeys(words.engine for readings in pages for words in readings)) or [paddle.ENGINE]
    readings = [
        _reading(engine, [words for page in pages for words in page if words.engine == engine], options)
        for engine in engines
    ]
    if len(pages) > 1:
        used = dict.fromkeys(words.engine for words, page in zip(chosen, pages, strict=True) if page)
        whole = _reading("+".join(used) or paddle.ENGINE, chosen, options)
        result = OcrResult(whole, tuple(readings if len(engines) > 1 else [whole]))
    else:
        result = choose_reading(readings)
    return DocumentReading(
        _of_all_pages(result, pages=len(pages), truncated=truncated),
        tuple(words.words for words in chosen),
        has_lines=any(pages),
    )


def _of_all_pages(result: OcrResult, *, pages: int, truncated: bool) -> OcrResult:
    chosen, *readings = (
        replace(reading, pages=pages, truncated=truncated) for reading in (result.chosen, *result.readings)
    )
    return OcrResult(chosen, tuple(readings))


def _reading(engine: str, pages: Sequence[EngineWords], options: OcrOptions) -> OcrReading:
    unread = [words.unread for words in pages if words.words or words.unread]
    return build_reading_of_pages(
        [words.words for words in pages],
        engine=engine,
        expected_languages=options.languages,
        unread=fmean(unread) if unread else 0.0,
    )


def _likeliest(readings: Sequence[EngineWords]) -> EngineWords:
    built = [build_reading(words.words, engine=words.engine, unread=words.unread) for words in readings]
    return readings[built.index(choose_reading(built).chosen)]
