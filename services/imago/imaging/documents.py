"""Read the text of an image, or of the pages of a TIFF file."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from imago.core.images.ocr_result import RecognizedWord, build_reading_of_pages
from imago.core.images.results import OcrReading
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.files import TaskFile
from imago.imaging.ocr import OcrOptions, read_words
from imago.imaging.pixels.opening import NoSuchPageError
from imago.imaging.preparation import prepare_for_ocr


@dataclass(frozen=True)
class PageLimits:
    """The longest side of a page and its pixels before; how many pages are read, and the seconds until one begins."""

    max_side: int
    max_pixels: int
    max_pages: int
    seconds: float


def read_document(source: TaskFile, first_page: TaskFile, *, options: OcrOptions, limits: PageLimits) -> OcrReading:
    """Read up to `max_pages` pages as one text; write the first page as it was prepared to `first_page`.

    Raises PermanentFailure if the first page can't be decoded, and what `read_words` raises.
    """
    pages: list[list[RecognizedWord]] = []
    truncated = False
    for page, is_cut in _prepared_pages(source, first_page, limits=limits):
        pages.append(read_words(page, options))
        truncated = truncated or is_cut
    reading = build_reading_of_pages(pages, engine=options.engine, expected_languages=options.languages)
    return replace(reading, truncated=truncated)


def _prepared_pages(source: TaskFile, first_page: TaskFile, *, limits: PageLimits) -> Iterator[tuple[TaskFile, bool]]:
    """Yield the pages one after the other, and whether pixels of each are missing."""
    started = time.monotonic()
    for number in range(limits.max_pages):
        page = first_page if number == 0 else io.BytesIO()
        if number and time.monotonic() - started > limits.seconds:
            return
        try:
            decoded = prepare_for_ocr(source, page, max_side=limits.max_side, max_pixels=limits.max_pixels, page=number)
        except NoSuchPageError:
            return
        except PermanentFailure:
            if number == 0:
                raise
            # A page that can't be decoded does not cost the text of the others.
            continue
        yield page, decoded.truncated
