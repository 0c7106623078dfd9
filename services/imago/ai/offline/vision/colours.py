"""The main colours of an image, by the area that each of them covers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Only colours that cover this share of the image are named.
_MIN_SHARE = 0.2
_MAX_COLOURS = 2
# A pixel of the subject counts as much as this many of its surroundings.
_SUBJECT_WEIGHT = 3.0
_SIDE = 64

# Of an image in black and white almost no pixel has a larger difference between its channels; JPEG causes a few.
_GRAY_SPREAD = 10
_GRAY_SHARE = 0.99

# The largest hue in degrees of each name, for colours that are neither gray nor brown.
_HUES = np.array([15, 42, 66, 165, 195, 255, 290, 340])
_HUE_NAMES = np.array(["red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "red"])

Floats = NDArray[np.floating[Any]]
# Left, top, right and bottom, as shares of the width and height.
Box = tuple[float, float, float, float]


def main_colours(image: Image.Image, subject: Box | None) -> tuple[str, ...]:
    """Return the English names of at most two colours that cover most of an RGB image, the largest first.

    An image without colours is only `black and white`, unless it has a single tone.
    """
    tiny = image.copy()
    tiny.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(tiny, dtype=np.float64)
    names = colour_names(pixels)
    weights = np.ones(names.shape)
    if subject is not None:
        rows, columns = (_inside(subject[axis], subject[axis + 2], names.shape[1 - axis]) for axis in (1, 0))
        weights[rows, columns] = _SUBJECT_WEIGHT
    shares = {str(name): float(weights[names == name].sum() / weights.sum()) for name in np.unique(names)}
    if len(shares) > 1 and (np.ptp(pixels, axis=2) <= _GRAY_SPREAD).mean() >= _GRAY_SHARE:
        return ("black and white",)
    largest = sorted(shares, key=lambda name: -shares[name])[:_MAX_COLOURS]
    return tuple(name for name in largest if shares[name] >= _MIN_SHARE)


def colour_names(pixels: Floats) -> NDArray[np.str_]:
    """Return the English name of the colour of each pixel of [height, width, 3], 0 to 255."""
    value = pixels.max(axis=2) / 255
    spread = np.ptp(pixels, axis=2) / 255
    saturation = spread / np.maximum(value, 1e-9)
    hue = _hue(pixels / 255, spread)
    warm = (hue < 55) | (hue > 345)
    brown = warm & ((value < 0.65) | (saturation < 0.4)) & (hue > 8)
    conditions = [
        value < 0.2,
        (saturation < 0.14) & (value > 0.85),
        saturation < 0.14,
        warm & (saturation < 0.4) & (value > 0.7),
        brown,
    ]
    names: NDArray[np.str_] = np.select(
        conditions, ["black", "white", "gray", "beige", "brown"], _HUE_NAMES[np.searchsorted(_HUES, hue)]
    )
    return names


def _hue(pixels: Floats, spread: Floats) -> Floats:
    """Return the hue in degrees, as `colorsys.rgb_to_hsv` does."""
    red, green, blue = np.moveaxis(pixels, 2, 0)
    largest, divisor = pixels.max(axis=2), np.maximum(spread, 1e-9)
    sextant = np.select(
        [largest == red, largest == green],
        [(green - blue) / divisor, 2 + (blue - red) / divisor],
        4 + (red - green) / divisor,
    )
    hue: Floats = sextant * 60 % 360
    return hue


def _inside(start: float, end: float, size: int) -> slice:
    return slice(int(start * size), max(int(end * size), int(start * size) + 1))
