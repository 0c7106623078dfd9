"""The second OCR engine, for pages that Tesseract reads badly: RapidOCR, whose models lie in its wheel."""

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from imago.core.images.ocr_result import Word, reading_of
from imago.core.images.results import OcrReading
from imago.core.jobs.failures import PermanentFailure

ENGINE = "rapidocr"


def read_text(page: Path, *, languages: tuple[str, ...]) -> OcrReading:
    """Read a page that was prepared for OCR; raise PermanentFailure where the extra `rapidocr` is not installed."""
    from imago.imaging.languages import language_of

    found = _engine()(str(page))
    texts, scores = found.txts or (), found.scores or ()
    words = [
        Word(word, float(score), starts_line=index == 0)
        for text, score in zip(texts, scores, strict=True)
        for index, word in enumerate(text.split())
    ]
    return reading_of(words, engine=ENGINE, language_of=lambda text: language_of(text, languages))


@lru_cache(maxsize=1)
def _engine() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise PermanentFailure(
            "ocr-engine-missing", "The second text engine is not installed on this server."
        ) from error
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    return RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 1})
