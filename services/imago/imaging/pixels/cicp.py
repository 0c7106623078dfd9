"""Convert colours that code points (CICP, ITU-T H.273) or measured primaries describe to sRGB.

HEIC and AVIF files have the code points in their `nclx` property, PNG in its `cICP` chunk. The measured primaries and
the gamma of a PNG are in its `cHRM` and `gAMA` chunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from PIL import Image, ImageFilter

PQ, HLG = 16, 18

# The chromaticities of red, green, blue and white (H.273, table 2).
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
# Unspecified primaries are read as those of sRGB (ISO/IEC 23000-22, section 7.3.6.4).
_UNSPECIFIED = 2
_SRGB_PRIMARIES = frozenset({1, _UNSPECIFIED})

# Exponents of transfer functions that are plain powers. All others but PQ and HLG are read as that of sRGB: encoders
# write the code of BT.709 for pictures that were made for a display in sRGB, and browsers show them so.
_POWERS = {4: 2.2, 5: 2.8, 8: 1.0}

# ITU-R BT.2408: the luminance of diffuse white in cd/m², and HLG's signal for it shows the same on a display with 1000.
_WHITE = 203.0
_HLG_PEAK = 1000.0
# Up to this part of diffuse white, HDR pictures keep their brightness. What is brighter is compressed below white.
_KNEE = 0.7

# Nodes of the table along an axis; the error of the interpolation is below one level of 255.
_NODES = 33

# Smaller differences of a chromaticity or an exponent are rounding.
_SAME_CHROMATICITY = 0.01
_SAME_EXPONENT = 0.05
_SRGB_EXPONENT = 2.2
# A file with a value beyond these is broken.
_LEAST_GAMMA = 0.2
_LEAST_AREA = 1e-3

_Chromaticities = tuple[tuple[float, float], ...]
_Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class CodePoints:
    """The codes of the primaries and of the transfer function."""

    primaries: int
    transfer: int

    @property
    def is_srgb(self) -> bool:
        """Whether the colours need no conversion."""
        return self.primaries in _SRGB_PRIMARIES and self.transfer not in (*_POWERS, PQ, HLG)

    @property
    def chromaticities(self) -> _Chromaticities:
        """The chromaticities of red, green, blue and white; unknown primaries are read as those of sRGB."""
        return _PRIMARIES.get(self.primaries, _PRIMARIES[1])

    @property
    def exponent(self) -> float | None:
        """The exponent of a transfer function that is a plain power."""
        return _POWERS.get(self.transfer)


@dataclass(frozen=True)
class MeasuredColours:
    """Chromaticities of red, green, blue and white, and the exponent that turns a signal into light."""

    chromaticities: _Chromaticities
    exponent: float | None
    transfer: ClassVar[int] = _UNSPECIFIED

    @property
    def is_srgb(self) -> bool:
        """Whether the colours need no conversion."""
        return self.chromaticities == _PRIMARIES[1] and self.exponent is None


def measured(chromaticities: Sequence[float] | None, gamma: float | None) -> MeasuredColours | None:
    """Return the colours of a PNG's `cHRM` (x and y of white, red, green, blue) and `gAMA`; None if they can't be.

    A gamma of 1/2.2 means sRGB (PNG, section 11.3.2.1), and so does a missing or an impossible one.
    """
    shown: _Chromaticities = _PRIMARIES[1]
    if chromaticities is not None and len(chromaticities) == 8:
        white, *colours = zip(chromaticities[::2], chromaticities[1::2], strict=True)
        shown = (*colours, white)
        if not _are_possible(shown):
            return None
        if all(abs(a - b) < _SAME_CHROMATICITY for a, b in zip(sum(shown, ()), sum(_PRIMARIES[1], ()), strict=True)):
            shown = _PRIMARIES[1]
    exponent = 1 / gamma if gamma and _LEAST_GAMMA <= gamma <= 1 / _LEAST_GAMMA else None
    if exponent is not None and abs(exponent - _SRGB_EXPONENT) < _SAME_EXPONENT:
        exponent = None
    return MeasuredColours(shown, exponent)


def to_srgb(image: Image.Image, colours: CodePoints | MeasuredColours) -> Image.Image:
    """Return an RGB or RGBA image in sRGB."""
    if colours.is_srgb or image.mode not in ("RGB", "RGBA"):
        return image
    if colours.exponent is not None:
        # A table of the function itself, because the dark end of a linear one is too steep to interpolate in.
        curve = _power_curve(colours.exponent)
        image = image.point(curve * 3 + (list(range(256)) if image.mode == "RGBA" else []))
    table = _table(colours.chromaticities, colours.transfer)
    return image if table is None else image.filter(table)


def _are_possible(chromaticities: _Chromaticities) -> bool:
    """Return whether the colours span a triangle that contains white."""
    (red_x, red_y), (green_x, green_y), (blue_x, blue_y), (white_x, white_y) = chromaticities
    if min(y for _x, y in chromaticities) <= 0:
        return False
    points = ((red_x, red_y), (green_x, green_y), (blue_x, blue_y))
    sides = [
        (bx - ax) * (white_y - ay) - (by - ay) * (white_x - ax)
        for (ax, ay), (bx, by) in zip(points, (*points[1:], points[0]), strict=True)
    ]
    return min(sides) > _LEAST_AREA


@lru_cache(maxsize=8)
def _table(source: _Chromaticities, transfer: int) -> ImageFilter.Color3DLUT | None:
    """Return the table from a signal to sRGB; None if they are equal."""
    if source == _PRIMARIES[1] and transfer not in (PQ, HLG):
        return None
    matrix = _multiply(_inverse(_to_xyz(_PRIMARIES[1])), _to_xyz(source))
    luminance = _to_xyz(source)[1]
    # One value for each node of an axis is computed once; the callback is called for each node of the cube.
    linear = {index / (_NODES - 1): _linear(index / (_NODES - 1), transfer) for index in range(_NODES)}

    def convert(red: float, green: float, blue: float) -> tuple[float, float, float]:
        light = [linear[red], linear[green], linear[blue]]
        if transfer == HLG:
            light = _shown_hlg(light, luminance)
        mixed = [sum(part * value for part, value in zip(row, light, strict=True)) for row in matrix]
        if transfer in (PQ, HLG):
            mixed = _tone_mapped(mixed)
        encoded = [_srgb_encoded(value) for value in mixed]
        return encoded[0], encoded[1], encoded[2]

    return ImageFilter.Color3DLUT.generate(_NODES, convert)


def _linear(signal: float, transfer: int) -> float:
    """Return the light of a signal; 1.0 is diffuse white, for HLG the light of the scene (0..1)."""
    if transfer == PQ:
        # SMPTE ST 2084.
        root = signal ** (1 / 78.84375)
        return float(
            10_000 / _WHITE * (max(root - 0.8359375, 0.0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        )
    if transfer == HLG:
        # ITU-R BT.2100, table 5.
        if signal <= 0.5:
            return signal * signal / 3
        return float((2.718281828459045 ** ((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return float(signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4)


def _srgb_encoded(light: float) -> float:
    light = min(max(light, 0.0), 1.0)
    return float(12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def _shown_hlg(scene: Sequence[float], luminance: Sequence[float]) -> list[float]:
    """Apply the opto-optical transfer function of HLG: what a display shows of the light of a scene."""
    brightness = sum(part * value for part, value in zip(luminance, scene, strict=True))
    gain = _HLG_PEAK / _WHITE * brightness**0.2 if brightness > 0 else 0.0
    return [value * gain for value in scene]


def _tone_mapped(light: Sequence[float]) -> list[float]:
    """Compress highlights, all three channels by the same factor, so that the hue is kept."""
    peak = max(light)
    if peak <= _KNEE:
        return list(light)
    room = 1 - _KNEE
    over = (peak - _KNEE) / room
    factor = (_KNEE + room * (1 - 2.718281828459045**-over)) / peak
    return [value * factor for value in light]


def _power_curve(exponent: float) -> list[int]:
    return [round(255 * _srgb_encoded((code / 255) ** exponent)) for code in range(256)]


def _to_xyz(chromaticities: Sequence[tuple[float, float]]) -> _Matrix:
    """Return the matrix from linear RGB to XYZ, with white scaled to D65."""
    columns = [_xyz(point) for point in chromaticities[:3]]
    white = _xyz(chromaticities[3])
    plain = tuple(zip(*columns, strict=True))
    scales = [sum(part * value for part, value in zip(row, white, strict=True)) for row in _inverse(plain)]
    adapted = [target / own for target, own in zip(_xyz(_D65), white, strict=True)]
    return tuple(
        tuple(value * scale * factor for value, scale in zip(row, scales, strict=True))
        for row, factor in zip(plain, adapted, strict=True)
    )


def _xyz(point: tuple[float, float]) -> tuple[float, float, float]:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _multiply(left: _Matrix, right: _Matrix) -> _Matrix:
    return tuple(
        tuple(sum(a * b for a, b in zip(row, col, strict=True)) for col in zip(*right, strict=True)) for row in left
    )


def _inverse(matrix: Sequence[Sequence[float]]) -> _Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    cofactors = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    return tuple(tuple(value / determinant for value in row) for row in cofactors)
