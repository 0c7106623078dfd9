"""Convert samples of any depth to 8 bits: RGB, or RGBA with transparency."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from PIL import Image, ImageChops

_WHITE_16 = 65535
# Cameras and microscopes store 10 and 12 bits in 16 without saying so. A picture that uses a quarter of such a range
# and nothing above it is taken for one; in 16 bits it would be black to the eye.
_WHITES_BELOW_16 = (1023, 4095)


@dataclass(frozen=True)
class Samples:
    """What a file says about deep gray samples: the value of white (None: stretch the range), and if 0 is white.

    `pair` are the channels that hold gray and alpha, as `pair_mode`, where their bytes were read as channels. `low` has
    the low bytes of RGB samples of 16 bits, of which the image has the high ones.
    """

    white: int | None = None
    inverted: bool = False
    pair: tuple[int, int] | None = None
    pair_mode: str = "LA"
    low: Image.Image | None = None


def averageable(image: Image.Image, samples: Samples) -> Image.Image:
    """Return the image in a mode whose pixels can be averaged."""
    if samples.pair is not None:
        bands = [image.getchannel(channel) for channel in samples.pair]
        return bands[0] if samples.pair_mode == "L" else Image.merge(samples.pair_mode, bands)
    if samples.low is not None:
        return _brightened(image, samples.low)
    if image.mode in ("P", "PA", "1"):
        return to_plain(image)
    # Pillow resizes 32-bit samples, but not 16-bit ones.
    return image.convert("I") if image.mode.startswith("I;16") else image


def is_dark(image: Image.Image) -> bool:
    """Return whether the high bytes of RGB samples of 16 bits are those of samples of 10 or 12 bits."""
    return _white_of(image) is not None


def _white_of(image: Image.Image) -> int | None:
    extrema = list(cast(Iterable[tuple[int, int]], image.getextrema()))
    low, high = min(low for low, _ in extrema), max(high for _, high in extrema)
    return next((white for white in _WHITES_BELOW_16 if high <= white >> 8 and high - low > white >> 10), None)


def _brightened(high: Image.Image, low: Image.Image) -> Image.Image:
    """Return the upper 8 bits of samples of 10 or 12 bits, by their high and low bytes."""
    white = _white_of(high)
    if white is None:
        return high
    shift = white.bit_length() - 8
    upper = high.point([value << (8 - shift) & 255 for value in range(256)] * 3)
    return ImageChops.add(upper, low.point([value >> shift for value in range(256)] * 3))


def to_plain(image: Image.Image, samples: Samples | None = None) -> Image.Image:
    """Return the image as RGB or RGBA with 8 bits."""
    if image.mode in ("RGB", "RGBA"):
        return image
    if image.mode in ("I", "F"):
        return to_gray(image, samples or Samples()).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    has_alpha = image.mode in ("LA", "La", "PA", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def to_gray(image: Image.Image, samples: Samples) -> Image.Image:
    """Return 32-bit or float samples as 8-bit gray."""
    low, white = _range(image, samples)
    factor = 255.0 / (white - low)
    # Half a level is added, because the conversion to 8 bits cuts.
    scaled = image.convert("F").point(lambda value: value * factor + (0.5 - low * factor)).convert("L")
    return ImageChops.invert(scaled) if samples.inverted else scaled


def to_gray_16(image: Image.Image, samples: Samples) -> Image.Image:
    """Return 32-bit or float samples as 16-bit gray."""
    low, white = _range(image, samples)
    factor = _WHITE_16 / (white - low)
    offset = -low * factor
    if samples.inverted:
        factor, offset = -factor, _WHITE_16 - offset
    return image.convert("F").point(lambda value: value * factor + offset).convert("I").convert("I;16")


def _range(image: Image.Image, samples: Samples) -> tuple[float, float]:
    """Return the values of black and white; or, if 0 is white, of white and black."""
    extrema = image.getextrema()
    low, high = float(extrema[0]), float(extrema[1])  # type: ignore[arg-type]
    if samples.white is not None:
        white = samples.white
        if white == _WHITE_16 and not samples.inverted:
            white = next((w for w in _WHITES_BELOW_16 if high <= w and high - low > w / 4), white)
        return 0.0, float(white)
    if image.mode == "F" and low >= 0 and high <= 1:
        return 0.0, 1.0
    if not high > low:
        # One value, or none that is a number.
        return 0.0, 255.0
    return low, high
