"""The tasks of a child process. Arguments and results are JSON, except for files: an open file, or a path.

Tasks import OCR engines themselves, so that a child loads only what it uses.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from imago.core.images.ocr.result import OCR_SIDE
from imago.imaging import preparation
from imago.imaging.files import TaskFile
from imago.imaging.thumbnail import ThumbnailFormat, make_thumbnail


def thumbnail(
    *, source: str | BinaryIO, target: str | BinaryIO, size: int, format: ThumbnailFormat, max_pixels: int
) -> dict[str, Any]:
    """Make a thumbnail; return a `ThumbnailResult`."""
    return make_thumbnail(_file(source), _file(target), size=size, format=format, max_pixels=max_pixels).to_json()


def prepare_for_vision(
    *, source: str | BinaryIO, target: str | BinaryIO, max_side: int, max_pixels: int
) -> dict[str, Any]:
    """Prepare an image for a vision provider; return a `PreparedImage`."""
    prepared = preparation.prepare_for_vision(_file(source), _file(target), max_side=max_side, max_pixels=max_pixels)
    return prepared.to_json()


def page_for_provider(*, page: str | BinaryIO, target: str | BinaryIO, max_side: int) -> None:
    """Convert a page that `ocr` prepared for a provider that reads text."""
    preparation.page_for_provider(_file(page), _file(target), max_side=max_side)


def ocr(
    *,
    source: str | BinaryIO,
    page: str | BinaryIO,
    languages: list[str],
    engine: str,
    tessdata_dir: str | None,
    max_pixels: int,
    max_pages: int = 1,
    seconds: float = 0.0,
    half_scale: bool = False,
) -> dict[str, Any]:
    """Read the text of an image; return a `DocumentReading`. The straightened first page is written to `page`.

    At most `max_pages` pages of a TIFF file are read, and none begins after `seconds`.
    """
    from imago.imaging.ocr.documents import PageLimits, read_document
    from imago.imaging.ocr.options import OcrOptions

    options = OcrOptions(tuple(languages), engine, tessdata_dir, half_scale)
    limits = PageLimits(OCR_SIDE, max_pixels, max_pages, seconds)
    return read_document(_file(source), _file(page), options=options, limits=limits).to_json()


def ocr_fallback(*, page: str | BinaryIO, languages: list[str]) -> dict[str, Any]:
    """Read a page that `ocr` prepared with the second engine; return an `OcrReading`."""
    from imago.imaging.ocr.paddle import read_page_again

    return asdict(read_page_again(_file(page), languages=languages))


def _file(file: str | BinaryIO) -> TaskFile:
    return Path(file) if isinstance(file, str) else file
