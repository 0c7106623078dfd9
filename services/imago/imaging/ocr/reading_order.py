"""The order in which people read the lines of a page: columns from left to right, each from top to bottom.

A column is a band of the page in which a vertical strip is free of lines, with text on both sides of it. This is the
recursive XY cut (Nagy and Seth, 1984), except that a strip need not cross the whole page: a heading may span columns.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imago.core.images.ocr.result import Box, RecognizedWord

# The free strip between two columns, in heights of a line: more than a wide space.
_COLUMN_GAP = 0.8
# Columns have several long lines. The cells of a table and the prices of a receipt are short, and are read by rows.
_MIN_COLUMN_LINES = 4
_MIN_COLUMN_RATIO = 7.0
# Lines are in one row if their middles differ by at most this, in heights of a line: letters such as p and d move them.
_LEVEL = 0.3
# Long cells are those of a table if this share of the lines of one column is in one row with a line of the other, and
# less than half of the lines are about as long as the longest ones, which those of running text are.
_ALIGNED_SHARE = 0.8
_FULL_LINE = 0.8
_FULL_SHARE = 0.5
# Two addresses side by side are aligned, too: they have few lines, which are nearer to each other than rows of a table
# and than what is above and below them.
_MAX_BLOCK_LINES = 7
_ROW_PITCH = 1.7
# Rows of one paragraph are nearer to each other, in heights of a line.
_PARAGRAPH_GAP = 1.2
# Boxes are in one row if they share this part of the height of the lower one.
_SHARED_HEIGHT = 0.5

# Of the bands that may be columns, this many with the most lines are looked at.
_MAX_BANDS = 500

Paragraph = list[list[int]]
"""Rows of indices of boxes."""


@dataclass(frozen=True)
class _Band:
    """A number of lines between two heights, where the strip at the right of `left` is free."""

    lines: int
    left: float
    top: float
    bottom: float


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
    tables: list[tuple[float, float]] = []
    for band in _bands(sides, middle, height):
        if any(top <= band.top and band.bottom <= bottom for top, bottom in tables):
            continue
        within = (middle > band.top) & (middle < band.bottom)
        is_left = sides[:, 2] <= band.left
        halves = sides[within & is_left], sides[within & ~is_left]
        if not all(map(_is_column, halves)):
            continue
        if not _are_cells(*halves, height=height, reach=(band.top, band.bottom)):
            return [middle <= band.top, within & is_left, within & ~is_left, middle >= band.bottom]
        # Some rows of a table look like running text.
        tables.append((band.top, band.bottom))
    return None


def _bands(sides: NDArray[np.float64], middle: NDArray[np.float64], height: float) -> list[_Band]:
    """Return the bands in which a vertical strip is free, those with the most lines first."""
    ordered = np.sort(middle)
    bands = []
    for left in np.unique(np.round(sides[:, 2] + 0.1 * height)):
        edges = _crossings(sides, middle, left, left + _COLUMN_GAP * height)
        lines = np.searchsorted(ordered, edges[1:]) - np.searchsorted(ordered, edges[:-1], "right")
        # Pages with thousands of lines have many bands, few of which are large enough.
        for index in np.flatnonzero(lines >= 2 * _MIN_COLUMN_LINES):
            bands.append(_Band(int(lines[index]), float(left), float(edges[index]), float(edges[index + 1])))
    return heapq.nlargest(_MAX_BANDS, bands, key=lambda band: band.lines)


def _crossings(
    sides: NDArray[np.float64], middle: NDArray[np.float64], left: float, right: float
) -> NDArray[np.float64]:
    """Return the heights of the boxes that touch a vertical strip, which is free between them, and of both ends."""
    touching = (sides[:, 0] < right) & (sides[:, 2] > left)
    return np.concatenate(([-np.inf], np.sort(middle[touching]), [np.inf]))


def _are_cells(
    left: NDArray[np.float64], right: NDArray[np.float64], *, height: float, reach: tuple[float, float]
) -> bool:
    """Return whether two columns of long lines are cells of a table.

    `reach` has the heights of the next lines above and below.
    """
    middles = [np.sort(side[:, 1] + side[:, 3]) / 2 for side in (left, right)]
    aligned = max(_level_share(middles[0], middles[1], height), _level_share(middles[1], middles[0], height))
    if aligned < _ALIGNED_SHARE or min(_full_share(left), _full_share(right)) >= _FULL_SHARE:
        return False
    is_tight = max(float(np.median(np.diff(middle))) for middle in middles) <= _ROW_PITCH * height
    both = np.concatenate(middles)
    is_apart = min(float(both.min()) - reach[0], reach[1] - float(both.max())) > _ROW_PITCH * height
    return not (max(len(left), len(right)) <= _MAX_BLOCK_LINES and is_tight and is_apart)


def _level_share(middles: NDArray[np.float64], others: NDArray[np.float64], height: float) -> float:
    """Return the share of lines that are in one row with one of the others; both are sorted by their middles."""
    after = np.searchsorted(others, middles).clip(1, len(others) - 1)
    nearest = np.minimum(abs(others[after - 1] - middles), abs(others[after] - middles))
    return float(np.mean(nearest <= _LEVEL * height))


def _full_share(sides: NDArray[np.float64]) -> float:
    widths = sides[:, 2] - sides[:, 0]
    return float(np.mean(widths >= _FULL_LINE * np.quantile(widths, 0.9)))


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
