"""Straighten a page by the boxes of its lines: turned by 90°, 180° or 270°, and skewed by any angle up to 45°."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.core.images.ocr.result import Box
from imago.imaging.ocr.paddle import Quads

# Boxes of at least this length in heights have a direction. The box of a short word may be higher than long.
_MIN_RATIO = 2.5
# Tesseract reads lines that are skewed by less than this as well as straight ones, and turning a page blurs it.
_MIN_SKEW = 0.6
# Directions of lines in a scene differ: if the middle half of them spans more than this, no turn makes them straight.
_MAX_SPREAD = 8.0
# Text in less than this part of a picture is that of a scene, whose rest needs no reading. The margin, in heights of a
# line, holds what the detector sees only a part of.
_MAX_PART = 0.4
_MARGIN = 1.5

_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class Page:
    """An image of a page, and the affine map (3 × 3) from its pixels to those of the picture it was made from."""

    image: Image.Image
    to_picture: NDArray[np.float64]

    @classmethod
    def of(cls, picture: Image.Image) -> "Page":
        """Return a picture as a page."""
        return cls(picture, np.eye(3))

    def turned(self, quarters: int) -> "Page":
        """Return the page turned counterclockwise by quarters of a turn."""
        if quarters % 4 == 0:
            return self
        image = self.image.transpose(_TURNS[quarters % 4])
        return Page(image, self.to_picture @ _turn_back(self.image.size, image.size, 90.0 * quarters))

    def rotated(self, degrees: float) -> "Page":
        """Return the page turned counterclockwise by some degrees, with all of its corners."""
        fill = _paper(self.image)
        image = self.image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)
        return Page(image, self.to_picture @ _turn_back(self.image.size, image.size, degrees))

    def cropped(self, box: Box) -> "Page":
        """Return the part of the page in a box."""
        left, top = max(0, int(box[0])), max(0, int(box[1]))
        right, bottom = min(self.image.width, int(box[2]) + 1), min(self.image.height, int(box[3]) + 1)
        shift = np.eye(3)
        shift[:2, 2] = left, top
        return Page(self.image.crop((left, top, right, bottom)), self.to_picture @ shift)

    def quads_of(self, quads: Quads) -> Quads:
        """Return quadrilaterals of the picture in this page's pixels."""
        inverse = np.linalg.inv(self.to_picture)
        moved: Quads = quads @ inverse[:2, :2].T + inverse[:2, 2]
        return moved

    def box_in_picture(self, box: Box) -> Box:
        """Return the upright box around a box of this page, in the picture's pixels."""
        left, top, right, bottom = box
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        mapped = corners @ self.to_picture[:2, :2].T + self.to_picture[:2, 2]
        (least_x, least_y), (most_x, most_y) = mapped.min(axis=0).tolist(), mapped.max(axis=0).tolist()
        return least_x, least_y, most_x, most_y


@dataclass(frozen=True)
class Direction:
    """How lines run: whether they run upwards or downwards, and by how many degrees they then are skewed."""

    is_upright: bool
    degrees: float


def straighten(picture: Image.Image, quads: Quads) -> tuple[Page, bool]:
    """Return the picture with level lines, and whether it was turned by a quarter, so that they may be upside down.

    Of a picture with text in a small part of it, that part is returned.
    """
    direction = direction_of(quads)
    part = part_with_text(quads, picture.size)
    page = Page.of(picture) if part is None else Page.of(picture).cropped(part)
    page = page.turned(1 if direction.is_upright else 0)
    return page if abs(direction.degrees) < _MIN_SKEW else page.rotated(direction.degrees), direction.is_upright


def part_with_text(quads: Quads, size: tuple[int, int]) -> Box | None:
    """Return the part of a picture that holds all lines, with a margin; None if it is most of the picture."""
    low, high = quads.reshape(-1, 2).min(axis=0), quads.reshape(-1, 2).max(axis=0)
    sides = np.linalg.norm(quads - np.roll(quads, 1, axis=1), axis=2)
    margin = _MARGIN * float(np.median(sides.min(axis=1)))
    width, height = high - low + 2 * margin
    if width * height > _MAX_PART * size[0] * size[1]:
        return None
    left, top = (low - margin).tolist()
    return left, top, left + float(width), top + float(height)


def direction_of(quads: Quads) -> Direction:
    """Return the direction of most of the text, by the long sides of its boxes."""
    first, second = quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 1]
    lengths = np.stack([np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)])
    sides = np.where((lengths[0] >= lengths[1])[:, None], first, second)
    long, short = lengths.max(axis=0), np.maximum(lengths.min(axis=0), 1)
    known = long / short >= _MIN_RATIO
    if not known.any():
        return Direction(is_upright=False, degrees=0.0)
    # Image rows grow downwards: a line that falls to the right has a positive angle.
    angles = np.degrees(np.arctan2(sides[known, 1], sides[known, 0])) % 180
    weights = long[known]
    upright = (angles > 45) & (angles < 135)
    is_upright = bool(weights[upright].sum() > weights.sum() / 2)
    chosen = upright == is_upright
    skews = (angles[chosen] - (90 if is_upright else 0) + 90) % 180 - 90
    low, middle, high = _weighted_quantiles(skews, weights[chosen], (0.25, 0.5, 0.75))
    return Direction(is_upright, middle if high - low <= _MAX_SPREAD else 0.0)


def _weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], parts: tuple[float, ...]
) -> tuple[float, ...]:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return tuple(float(values[order][np.searchsorted(reached, part * reached[-1])]) for part in parts)


def _turn_back(size: tuple[int, int], turned: tuple[int, int], degrees: float) -> NDArray[np.float64]:
    """Return the map from a turned image to the image before, both turned around their centres."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before, after = np.array(size) / 2, np.array(turned) / 2
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, before - turn @ after
    return matrix


def _paper(image: Image.Image) -> int | tuple[int, ...]:
    """Return the usual colour of the image's border, which fills the corners."""
    small = image.copy()
    small.thumbnail((64, 64), Image.Resampling.BOX)
    pixels = np.asarray(small)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(border, axis=0)
    return int(colour) if border.ndim == 1 else tuple(int(part) for part in colour)
