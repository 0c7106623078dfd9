"""What a child process can be asked to do: each task takes and returns what JSON can carry.

Engines are imported inside their tasks, so that a child loads only what it does.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from imago.imaging.preparation import page_for_provider, prepare_for_ocr, prepare_for_vision
from imago.imaging.thumbnail import ThumbnailFormat, make_thumbnail

# An A4 page at 400 dots per inch; text larger than that reads no better.
OCR_SIDE = 4700


def thumbnail(*, source: str, target: str, size: int, format: ThumbnailFormat, max_pixels: int) -> dict[str, Any]:
    """Make a thumbnail; return a `ThumbnailResult`."""
    return make_thumbnail(Path(source), Path(target), size=size, format=format, max_pixels=max_pixels).to_json()


def vision_input(*, source: str, target: str, max_side: int, max_pixels: int) -> dict[str, Any]:
    """Prepare an image for a vision provider; return a `Prepared`."""
    return prepare_for_vision(Path(source), Path(target), max_side=max_side, max_pixels=max_pixels).to_json()


def page_jpeg(*, page: str, target: str, max_side: int) -> None:
    """Make a page that `ocr` prepared ready for a provider that reads text."""
    page_for_provider(Path(page), Path(target), max_side=max_side)


def ocr(
    *,
    source: str,
    page: str,
    languages: list[str],
    engine: str,
    tessdata_dir: str | None,
    max_pixels: int,
    half_scale: bool = False,
) -> dict[str, Any]:
    """Read the text of an image; `page` is where the prepared page is left. Return an `OcrReading`."""
    from imago.imaging.ocr import read_text

    prepare_for_ocr(Path(source), Path(page), max_side=OCR_SIDE, max_pixels=max_pixels)
    reading = read_text(
        Path(page), languages=tuple(languages), engine=engine, tessdata_dir=tessdata_dir, half_scale=half_scale
    )
    return asdict(reading)


def ocr_fallback(*, page: str, languages: list[str]) -> dict[str, Any]:
    """Read a page that `ocr` prepared with the second engine; return an `OcrReading`."""
    from imago.imaging.ocr_fallback import read_text

    return asdict(read_text(Path(page), languages=tuple(languages)))
