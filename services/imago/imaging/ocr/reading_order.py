"""The order in which people read the lines of a page: columns from left to right, each from top to bottom.

A column is a band of the page in which a vertical strip is free of lines, with text on both sides of it. This is the
recursive XY cut (Nagy and Seth, 1984), except that a strip need not cross the whole page: a heading may span columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imago.core.images.ocr.result import Box, RecognizedWord

# The free strip between two columns, in heights of a line: more than a wide space.
_COLUMN_GAP = 0.8
# Columns have several long lines. The cells of a table and the prices of a receipt are short, and are read by rows.
_MIN_COLUMN_LINES = 4
_MIN_COLUMN_RATIO = 7.0
# Rows of one paragraph are nearer to each other, in heights of a line.
_PARAGRAPH_GAP = 1.2
# Boxes are in one row if they share this part of the height of the lower one.
_SHARED_HEIGHT = 0.5

Paragraph = list[list[int]]
"""Rows of indices of boxes."""


def in_reading_order(boxes: Sequence[Box]) -> list[Paragraph]:
    """Return the indices of the boxes as paragraphs of rows, in their reading order."""
    if not boxes:
        return []
    sides = np.asarray(boxes, dtype=np.float64)
    return [paragraph for part in _parts(sides, np.arange(len(sides))) for paragraph in _paragraphs(sides, part)]


def joined_rows(words: Sequence[RecognizedWord]) -> list[RecognizedWord]:
    """Return an engine's words with the lines that are side by side joined to rows; as they are if there are none.

    Tesseract reads the columns of a table one after the other, and divides a line that is bent.
    """
    lines: list[list[RecognizedWord]] = []
    for word in words:
        if word.starts_line or not lines:
            lines.append([])
        lines[-1].append(word)
    paragraphs = in_reading_order([_bounds(line) for line in lines])
    if all(len(row) == 1 for paragraph in paragraphs for row in paragraph):
        return list(words)
    return [
        replace(word, starts_line=number == 0, starts_paragraph=number == 0 and place == 0)
        for paragraph in paragraphs
        for place, row in enumerate(paragraph)
        for number, word in enumerate(word for index in row for word in lines[index])
    ]


def _bounds(words: Sequence[RecognizedWord]) -> Box:
    boxes = [word.box for word in words if word.box]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _parts(sides: NDArray[np.float64], members: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the parts of a page that are read one after the other, each from top to bottom."""
    split = _split_columns(sides[members])
    if split is None:
        if len(members):
            yield members
        return
    for part in split:
        yield from _parts(sides, members[part])


def _split_columns(sides: NDArray[np.float64]) -> list[NDArray[np.bool_]] | None:
    """Return what is above, left of, right of and below the longest free strip; None if there are no columns."""
    if len(sides) < 2 * _MIN_COLUMN_LINES:
        return None
    height = float(np.median(sides[:, 3] - sides[:, 1]))
    middle = (sides[:, 1] + sides[:, 3]) / 2
    ordered = np.sort(middle)
    best, most = None, 2 * _MIN_COLUMN_LINES - 1
    for left in np.unique(np.round(sides[:, 2] + 0.1 * height)):
        is_left = sides[:, 2] <= left
        edges = _crossings(sides, middle, left, left + _COLUMN_GAP * height)
        lines = np.searchsorted(ordered, edges[1:]) - np.searchsorted(ordered, edges[:-1], "right")
        # Pages with thousands of lines have many bands, few of which are large enough.
        for band in np.flatnonzero(lines > most):
            top, bottom = edges[band], edges[band + 1]
            within = (middle > top) & (middle < bottom)
            if within.sum() > most and all(_is_column(sides[within & side]) for side in (is_left, ~is_left)):
                best, most = [middle <= top, within & is_left, within & ~is_left, middle >= bottom], int(within.sum())
    return best


def _crossings(
    sides: NDArray[np.float64], middle: NDArray[np.float64], left: float, right: float
) -> NDArray[np.float64]:
    """Return the heights of the boxes that touch a vertical strip, which is free between them, and of both ends."""
    touching = (sides[:, 0] < right) & (sides[:, 2] > left)
    return np.concatenate(([-np.inf], np.sort(middle[touching]), [np.inf]))


def _is_column(sides: NDArray[np.float64]) -> bool:
    if len(sides) < _MIN_COLUMN_LINES:
        return False
    ratios = (sides[:, 2] - sides[:, 0]) / np.maximum(sides[:, 3] - sides[:, 1], 1)
    return bool(np.median(ratios) >= _MIN_COLUMN_RATIO)


def _paragraphs(sides: NDArray[np.float64], members: NDArray[np.int64]) -> Iterator[Paragraph]:
    paragraph: Paragraph = []
    bottom = 0.0
    for row in _rows(sides, members):
        top, height = min(sides[row, 1]), float(np.median(sides[row, 3] - sides[row, 1]))
        if paragraph and top - bottom > _PARAGRAPH_GAP * height:
            yield paragraph
            paragraph = []
        paragraph.append(row)
        bottom = max(sides[row, 3])
    yield paragraph


def _rows(sides: NDArray[np.float64], members: NDArray[np.int64]) -> list[list[int]]:
    """Return the rows from top to bottom, each from left to right."""
    rows: list[list[int]] = []
    for index in members[np.argsort(sides[members, 1] + sides[members, 3], kind="stable")].tolist():
        if rows and _shared_height(sides[rows[-1][-1]], sides[index]) > _SHARED_HEIGHT:
            rows[-1].append(index)
        else:
            rows.append([index])
    return [sorted(row, key=lambda index: float(sides[index, 0])) for row in rows]


def _shared_height(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    shared = min(first[3], second[3]) - max(first[1], second[1])
    return float(shared / max(min(first[3] - first[1], second[3] - second[1]), 1))
