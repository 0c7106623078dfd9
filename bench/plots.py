"""Plots as SVG, small enough to be read in a diff: bars in groups, and lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 54, 40
_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b7791f", "#718096")


@dataclass(frozen=True)
class Series:
    """The values of one colour."""

    name: str
    values: Sequence[float]


def bars(title: str, unit: str, series: Sequence[Series], labels: Sequence[str]) -> str:
    """Return a bar chart with one group per label, and each value above its bar."""
    top = _ceiling(max((value for one in series for value in one.values), default=0.0))
    group = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    width = min(48.0, group * 0.8 / max(len(series), 1))
    parts = []
    for place, label in enumerate(labels):
        middle = _LEFT + group * (place + 0.5)
        parts.append(_text(middle, _HEIGHT - _BOTTOM + 18, label))
        for index, one in enumerate(series):
            value = one.values[place]
            x, y = middle + width * (index - len(series) / 2), _y(value, top)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}" height="{_HEIGHT - _BOTTOM - y:.1f}"'
                f' fill="{_COLOURS[index % len(_COLOURS)]}"/>'
            )
            parts.append(_text(x + width * 0.46, y - 4, f"{value:.3g}", size=10))
    return _page(title, unit, top, [one.name for one in series], parts)


def lines(title: str, axes: tuple[str, str], series: Sequence[Series], at: Sequence[float]) -> str:
    """Return a line chart over the values `at`; `axes` are the units of both axes."""
    top = _ceiling(max((value for one in series for value in one.values), default=0.0))
    first, last = min(at, default=0.0), max(at, default=1.0)
    span = (last - first) or 1.0

    def x(value: float) -> float:
        return _LEFT + (value - first) / span * (_WIDTH - _LEFT - _RIGHT)

    parts = [
        f'<polyline fill="none" stroke="{_COLOURS[index % len(_COLOURS)]}" stroke-width="1.5" points="'
        + " ".join(f"{x(place):.1f},{_y(value, top):.1f}" for place, value in zip(at, one.values, strict=True))
        + '"/>'
        for index, one in enumerate(series)
    ]
    parts += [_text(x(value), _HEIGHT - _BOTTOM + 16, f"{value:g}") for value in _ticks(first, last)]
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, axes[0], anchor="end"))
    return _page(title, axes[1], top, [one.name for one in series], parts)


def _page(title: str, unit: str, top: float, names: Sequence[str], parts: list[str]) -> str:
    frame = [_text(_LEFT, 18, title, size=14, anchor="start"), _text(_LEFT - 6, _TOP - 10, unit, size=10, anchor="end")]
    for step in range(5):
        value = top * step / 4
        frame.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(value, top):.1f}" y2="{_y(value, top):.1f}"'
            ' stroke="#cbd5e0" stroke-width="0.5"/>'
        )
        frame.append(_text(_LEFT - 6, _y(value, top) + 4, f"{value:.4g}", size=10, anchor="end"))
    place = float(_LEFT)
    for index, name in enumerate(names):
        frame.append(f'<rect x="{place:.0f}" y="28" width="10" height="10" fill="{_COLOURS[index % len(_COLOURS)]}"/>')
        frame.append(_text(place + 14, 37, name, anchor="start"))
        place += 30 + 6.6 * len(name)
    body = "\n".join([*frame, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#2d3748">{escape(text)}</text>'
    )


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)


def _ceiling(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999999)


def _ticks(first: float, last: float) -> list[float]:
    step = _ceiling((last - first) / 8) or 1.0
    place, ticks = math.ceil(first / step) * step, []
    while place <= last + step * 1e-9:
        ticks.append(place)
        place += step
    return ticks
