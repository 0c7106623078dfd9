"""The words of a reading with their boxes, and the compact JSON in which they are stored beside the result.

The JSON is `{"engine", "pages": [[width, height, [[text, left, top, width, height, percent], …]], …], "truncated"}`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imago.core.images.ocr.result import RecognizedWord, clean_word

# A dense page has about 1,000 words; these take about 40 KB.
MAX_WORDS = 5_000
MAX_BYTES = 256 * 1024


@dataclass(frozen=True)
class PageWords:
    """The words of a page in their reading order, and the size in pixels of the upright picture that holds them."""

    width: int
    height: int
    words: tuple[RecognizedWord, ...]


def encode_words(engine: str, pages: Sequence[PageWords]) -> str:
    """Return the JSON of the words that an engine read, without those beyond the limits."""
    items, size, count, truncated = [], 0, 0, False
    for page in pages:
        rows: list[list[object]] = []
        for row in _rows(page):
            size, count = size + len(_dumps(row).encode()) + 1, count + 1
            if count > MAX_WORDS or size > MAX_BYTES:
                truncated = True
                break
            rows.append(row)
        items.append([page.width, page.height, rows])
    return _dumps({"engine": engine, "pages": items, "truncated": truncated})


def _rows(page: PageWords) -> Iterator[list[object]]:
    for word in page.words:
        text = clean_word(word.text)
        if word.box is None or not text:
            continue
        left, top = max(0, round(word.box[0])), max(0, round(word.box[1]))
        right, bottom = min(page.width, round(word.box[2])), min(page.height, round(word.box[3]))
        yield [text, left, top, max(right - left, 0), max(bottom - top, 0), round(100 * word.confidence)]


def _dumps(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
