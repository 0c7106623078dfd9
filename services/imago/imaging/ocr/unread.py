"""How much of the found lines an engine did not read. Its confidence can't show it, because it is that of its words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imago.core.images.ocr.result import RecognizedWord
from imago.imaging.ocr.paddle import Quads

# Words that an engine is less sure of are guesses, and do not count as read.
_MIN_CONFIDENCE = 0.5
# A line counts as read if words cover this part of its length. Boxes are longer than their lines by a letter.
_COVERED = 0.6


def unread_share(quads: Quads, words: Sequence[RecognizedWord]) -> float:
    """Return the share 0..1 of the lines' letters, estimated by length over height, that no word covers."""
    if not len(quads):
        return 0.0
    low, high = quads.min(axis=1), quads.max(axis=1)
    boxes = np.array([word.box for word in words if word.box and word.confidence >= _MIN_CONFIDENCE]).reshape(-1, 4)
    weights = (high[:, 0] - low[:, 0]) / np.maximum(high[:, 1] - low[:, 1], 1)
    read = np.array([_coverage((*low[i], *high[i]), boxes) >= _COVERED for i in range(len(quads))])
    return float(weights[~read].sum() / max(weights.sum(), 1e-9))


def _coverage(line: tuple[float, ...], boxes: NDArray[np.float64]) -> float:
    """Return the part of a line's length that boxes cover whose middle is at the line's height."""
    left, top, right, bottom = line
    middle = (boxes[:, 1] + boxes[:, 3]) / 2
    inside = boxes[(middle > top) & (middle < bottom) & (boxes[:, 2] > left) & (boxes[:, 0] < right)]
    covered, reached = 0.0, left
    for start, end in sorted(zip(inside[:, 0].tolist(), inside[:, 2].tolist(), strict=True)):
        # Spaces between words are about a third of the line's height.
        start = max(start - (bottom - top) / 2, reached)
        covered += max(0.0, min(end, right) - start)
        reached = max(reached, min(end, right))
    return covered / max(right - left, 1)
