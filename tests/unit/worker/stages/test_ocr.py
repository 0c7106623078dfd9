"""When a page is read again by the fallback."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from imago.core.images.results import OcrReading, OcrResult
from imago.imaging.ocr.documents import DocumentReading
from imago.settings import Settings
from imago.worker.stages.ocr import OcrStage


def is_poor(confidence: float, *, has_lines: bool = True, pages: int = 1, **settings: Any) -> bool:
    tools = SimpleNamespace(settings=Settings(ocr_fallback_confidence=0.5, **settings))
    reading = OcrReading(confidence > 0, "text" if confidence else "", None, confidence, "tesserocr", pages=pages)
    return OcrStage(cast(Any, tools))._is_poor(DocumentReading(OcrResult(reading, (reading,)), has_lines))


@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_lines_that_were_found_but_not_read_are_read_again(confidence: float) -> None:
    assert is_poor(confidence, ocr_fallback="ai")
    assert is_poor(confidence, ocr_fallback="rapidocr", ocr_engine="tesserocr") is True
    assert not is_poor(confidence, ocr_fallback="none")


def test_a_picture_without_lines_is_not_read_again() -> None:
    assert not is_poor(0.0, has_lines=False, ocr_fallback="ai")


def test_a_good_reading_and_one_of_several_pages_are_not_read_again() -> None:
    assert not is_poor(0.6, ocr_fallback="ai")
    assert not is_poor(0.3, ocr_fallback="ai", pages=2)


@pytest.mark.parametrize("engine", ["auto", "rapidocr"])
def test_an_engine_does_not_read_the_same_page_twice(engine: str) -> None:
    assert not is_poor(0.3, ocr_fallback="rapidocr", ocr_engine=engine)
