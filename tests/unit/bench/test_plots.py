"""Plots are well-formed and in proportion to their values."""

from xml.etree import ElementTree

import pytest

from bench.plots import Series, bars, lines

_SVG = "{http://www.w3.org/2000/svg}"


def rectangles(svg: str) -> list[ElementTree.Element]:
    """Return only the bars: the frame has no y, and the legend's rectangles are 10 high."""
    found = ElementTree.fromstring(svg).iter(f"{_SVG}rect")
    return [each for each in found if each.get("y") and each.get("height") != "10"]


def test_bars_are_in_proportion_to_their_values() -> None:
    drawn = rectangles(bars("title", "ms", [Series("one", [10.0, 5.0])], ["a", "b"]))
    tall, short = (float(bar.get("height", "0")) for bar in drawn)
    assert tall == pytest.approx(2 * short, rel=0.01)


def test_markup_in_names_is_escaped() -> None:
    svg = bars("<b> & more", "ms", [Series("a < b", [1.0])], ["<x>"])
    texts = [each.text for each in ElementTree.fromstring(svg).iter(f"{_SVG}text")]
    assert "<b> & more" in texts
    assert "<x>" in texts


def test_lines_pass_through_all_points() -> None:
    svg = lines("title", ("hour", "pods"), [Series("one", [0.0, 1.0, 2.0])], [0.0, 1.0, 2.0])
    line = next(ElementTree.fromstring(svg).iter(f"{_SVG}polyline"))
    points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert len(points) == 3
    assert points[0][1] > points[1][1] > points[2][1], "higher values are drawn higher"


@pytest.mark.parametrize("values", [[], [0.0, 0.0]])
def test_an_empty_plot_is_not_an_error(values: list[float]) -> None:
    ElementTree.fromstring(bars("title", "ms", [Series("one", values)], ["a"] * len(values)))
