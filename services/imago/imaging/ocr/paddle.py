"""PP-OCRv6 by RapidOCR, whose wheel contains its models: a detector of lines of text, and an engine that reads lines.

The detector is set to its fastest size (`limit_type` `max`, 960 pixels): the default enlarges small images, takes twice
the CPU and reads worse. The classifier of upside-down lines is off: it turns good lines over.
"""

import importlib.util
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.core.images.ocr.result import Box, RecognizedWord, build_reading
from imago.core.images.results import OcrReading
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.files import TaskFile, reading
from imago.imaging.ocr.reading_order import in_reading_order

ENGINE = "rapidocr"

Quads = NDArray[np.float64]
"""Quadrilaterals around lines of text: an array of (number, 4 corners, x and y) in pixels."""

DETECTOR_SIDE = 960
"""The longest side in pixels of what the detector looks at."""
# Lines are read at a height of 48 pixels, so larger pages are read no better.
_READING_SIDE = 2000
# A dense page has about 150 lines, a table as many cells.
_MAX_LINES = 600
# Lines that are read together are padded to the longest of them.
_BATCH = 6
# Dense pages take up to 3 s of CPU. Lines that are left after this stay unread.
_READING_CPU = 12.0
# Lines below this score are guesses.
_MIN_SCORE = 0.5


@dataclass(frozen=True)
class _Line:
    text: str
    score: float
    box: Box
    starts: tuple[float, ...]
    """Where each character that is not a space begins, as a part of the line's width; empty if unknown."""


def is_installed() -> bool:
    """Return whether this machine has the package."""
    return importlib.util.find_spec("rapidocr") is not None


def find_lines(image: Image.Image) -> Quads:
    """Return the quadrilaterals around the lines of text of an RGB image, in its pixels."""
    found = _engine()(_bgr(image), use_det=True, use_cls=False, use_rec=False)
    boxes = getattr(found, "boxes", None)
    return np.zeros((0, 4, 2)) if boxes is None else np.asarray(boxes, dtype=np.float64)


def read_words(page: Image.Image) -> list[RecognizedWord]:
    """Read the words of an upright RGB page in their reading order, with their boxes in its pixels."""
    small = page.copy()
    small.thumbnail((_READING_SIDE, _READING_SIDE), Image.Resampling.BICUBIC, reducing_gap=2)
    lines = _read_lines(_bgr(small), find_lines(small))
    scale = page.width / small.width
    return [
        replace(word, starts_line=number == 0, starts_paragraph=number == 0 and place == 0)
        for paragraph in in_reading_order([line.box for line in lines])
        for place, row in enumerate(paragraph)
        for number, word in enumerate(word for index in row for word in _words(lines[index], scale))
    ]


def read_page_again(page: TaskFile, *, languages: Collection[str]) -> OcrReading:
    """Read a page that `read_document` wrote."""
    with reading(page) as file, Image.open(file, formats=["PPM"]) as image:
        words = read_words(image)
    return build_reading(words, engine=ENGINE, expected_languages=languages)


def read_shapes(image: Image.Image, quads: Quads) -> list[tuple[str, float]]:
    """Return the text in each quadrilateral of an RGB image and its score 0..1, whichever way up reads better."""
    engine = _engine()
    crops = engine.crop_text_regions(_bgr(image), quads.astype(np.float32))
    read = engine.recognize_txt([*crops, *(np.ascontiguousarray(np.rot90(crop, 2)) for crop in crops)])
    found = list(zip(read.txts, (float(score) for score in read.scores), strict=True))
    return [
        max(upright, turned, key=lambda reading: reading[1])
        for upright, turned in zip(found[: len(crops)], found[len(crops) :], strict=True)
    ]


def mean_score(lines: Sequence[Image.Image]) -> float:
    """Return how well RGB images of single lines can be read, 0..1: the mean score of their texts."""
    crops = [_bgr(line) for line in lines if min(line.size) > 0]
    return float(np.mean(_engine().recognize_txt(crops).scores)) if crops else 0.0


def _read_lines(pixels: NDArray[np.uint8], quads: Quads) -> list[_Line]:
    engine = _engine()
    crops = engine.crop_text_regions(pixels, quads.astype(np.float32))
    # Of a width, so that a batch is padded little.
    order = sorted((i for i in range(len(crops)) if crops[i].size), key=lambda i: crops[i].shape[1] / crops[i].shape[0])
    started, lines = time.process_time(), []
    for first in range(0, len(order), _BATCH):
        if time.process_time() - started > _READING_CPU:
            break
        batch = order[first : first + _BATCH]
        read = engine.recognize_txt([crops[index] for index in batch])
        for index, text, score, details in zip(batch, read.txts, read.scores, read.word_results, strict=True):
            if text.strip() and score >= _MIN_SCORE:
                lines.append(_Line(text.strip(), float(score), _bounds(quads[index]), _starts(text, details)))
    return lines


def _starts(text: str, details: Any) -> tuple[float, ...]:
    """Return where the characters of a line begin, from the columns of the network's output that named them."""
    columns = [column for word in details.word_cols for column in word] if details else []
    if len(columns) != sum(not char.isspace() for char in text):
        return ()
    return tuple(float(column) / details.line_txt_len for column in columns)


def _words(line: _Line, scale: float) -> list[RecognizedWord]:
    texts = line.text.split()
    total = sum(len(text) for text in texts)
    starts = line.starts or tuple(position / total for position in range(total))
    left, top, right, bottom = (scale * side for side in line.box)
    words, position = [], 0
    for text in texts:
        begin, end = starts[position], (*starts, 1.0)[position + len(text)]
        box = left + begin * (right - left), top, left + end * (right - left), bottom
        words.append(RecognizedWord(text, line.score, box=box))
        position += len(text)
    return words


def _bounds(quad: NDArray[np.float64]) -> Box:
    (left, top), (right, bottom) = quad.min(axis=0), quad.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _bgr(image: Image.Image) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


@lru_cache(maxsize=1)
def _engine() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise PermanentFailure(
            "ocr-engine-missing", "The text engine RapidOCR is not installed on this server."
        ) from error
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Global.return_word_box": True,
            "Det.limit_type": "max",
            "Det.limit_side_len": DETECTOR_SIDE,
            "Det.max_candidates": _MAX_LINES,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
