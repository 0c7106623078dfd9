"""A hash of what a picture looks like, which re-encoded, scaled and lightly edited copies share.

The algorithm is pHash as in imagehash 4 (`phash` with its defaults): the signs of the 64 lowest frequencies of a
discrete cosine transform of the picture at 32 × 32, relative to their median. imagehash needs SciPy and PyWavelets for
it; the few sums here take a millisecond.
"""

import math
from collections.abc import Sequence
from operator import mul
from statistics import median

from PIL import Image

from imago.imaging.pixels.colour import flatten

_SIDE = 32
_LOW = 8
_BITS = _LOW * _LOW

# The mean size of the coefficients but the first, for a picture with values 0 to 255. Blank pages and walls have less:
# their signs are those of noise and compression, or all the same.
_LEAST_CONTRAST = 2400.0

_WAVES = [
    [math.cos(math.pi * frequency * (2 * position + 1) / (2 * _SIDE)) for position in range(_SIDE)]
    for frequency in range(_LOW)
]


def perceptual_hash(image: Image.Image) -> int | None:
    """Return the hash as a signed integer of 64 bits; None for a picture that shows too little to be recognized."""
    small = flatten(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    pixels = small.tobytes()
    rows = [_frequencies(pixels[start : start + _SIDE]) for start in range(0, len(pixels), _SIDE)]
    columns = [_frequencies(column) for column in zip(*rows, strict=True)]
    # As imagehash has them: vertical frequency by vertical frequency.
    values = [column[vertical] for vertical in range(_LOW) for column in columns]
    if sum(map(abs, values[1:])) < _LEAST_CONTRAST * (_BITS - 1):
        return None
    middle = median(values)
    bits = sum((value > middle) << (_BITS - 1 - index) for index, value in enumerate(values))
    return bits - 2**_BITS if bits >= 2 ** (_BITS - 1) else bits


def _frequencies(values: Sequence[float]) -> list[float]:
    """Return the lowest coefficients of the discrete cosine transform (type II, without scaling)."""
    return [2 * sum(map(mul, values, waves)) for waves in _WAVES]
