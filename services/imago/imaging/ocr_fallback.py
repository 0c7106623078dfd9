"""The second OCR engine, for pages that Tesseract reads badly: RapidOCR, whose wheel contains its models."""

import logging
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from imago.core.images.ocr_result import RecognizedWord, build_reading
from imago.core.images.results import OcrReading
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.files import TaskFile, reading

ENGINE = "rapidocr"


def read_text(page: TaskFile, *, languages: Collection[str]) -> OcrReading:
    """Read a page that was prepared for OCR; raise PermanentFailure if the extra `rapidocr` is not installed."""
    with reading(page) as file:
        lines = _engine()(file.read())
    texts, scores = lines.txts or (), lines.scores or ()
    words = [
        RecognizedWord(word, float(score), starts_line=index == 0)
        for text, score in zip(texts, scores, strict=True)
        for index, word in enumerate(text.split())
    ]
    return build_reading(words, engine=ENGINE, expected_languages=languages)


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
