"""The object detector: NanoDet's boxes of 80 kinds of objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.ai.offline.models.nanodet import DISTANCES, SIDE, STRIDES

# Lower scores are noise, also for search by meaning.
_MIN_SCORE = 0.15
# Boxes of a kind that overlap more are the same object; of `nanodet/model/head/gfl_head.py` 0.6.
_MAX_OVERLAP = 0.5

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Detection:
    """An object: its kind (0 to 79), how likely it is, and its box as shares of the width and height of the image."""

    kind: int
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """The share of the image that the box covers."""
        return (self.right - self.left) * (self.bottom - self.top)

    def overlap(self, other: "Detection") -> float:
        """Return the intersection of two boxes over their union."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(width, 0.0) * max(height, 0.0)
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0


class Detector:
    """Detects objects. It may be used by several threads, each with one image."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def detect(self, image: Image.Image) -> tuple[Detection, ...]:
        """Return the objects in an RGB image, of each kind the likeliest first."""
        pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        scores, distances = (output[0] for output in self._session.run(["scores", "distances"], {"image": pixels}))
        likely = np.flatnonzero(scores.max(axis=1) >= _MIN_SCORE)
        boxes = _boxes(distances[likely], likely) / SIDE
        kinds = np.unique(np.argwhere(scores[likely] >= _MIN_SCORE)[:, 1])
        return tuple(found for kind in kinds for found in _distinct(int(kind), scores[likely, kind], boxes))


def _boxes(distances: Floats, anchors: NDArray[np.intp]) -> Floats:
    """Return left, top, right and bottom in pixels: the means of the distributions, from the anchors' centres."""
    logits = distances.reshape(-1, 4, DISTANCES)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    means = (weights @ np.arange(DISTANCES, dtype=np.float32)) / weights.sum(axis=2)
    centres, strides = (values[anchors] for values in _ANCHORS)
    reach = means * strides[:, None]
    boxes: Floats = np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], axis=1)
    return boxes.clip(0, SIDE)


def _anchors() -> tuple[Floats, Floats]:
    """Return the centres and strides of all anchors."""
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[0 : SIDE // stride, 0 : SIDE // stride]
        centres.append((np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * stride)
        strides.append(np.full(rows.size, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32)


_ANCHORS = _anchors()


def _distinct(kind: int, scores: Floats, boxes: Floats) -> list[Detection]:
    """Return the likeliest boxes of a kind, without those that overlap a likelier one."""
    found: list[Detection] = []
    for index in (index for index in np.argsort(-scores) if scores[index] >= _MIN_SCORE):
        candidate = Detection(kind, float(scores[index]), *(float(side) for side in boxes[index]))
        if all(candidate.overlap(each) < _MAX_OVERLAP for each in found):
            found.append(candidate)
    return found
