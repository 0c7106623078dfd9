"""Pages are straightened by the boxes of their lines, and boxes are mapped back to the picture."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from imago.core.images.ocr.result import RecognizedWord
from imago.imaging.ocr.paddle import Quads
from imago.imaging.ocr.straightening import Page, direction_of, straighten
from imago.imaging.ocr.unread import unread_share


def lines(degrees: float, *, count: int = 6, centre: float = 500.0) -> Quads:
    """Return boxes of long lines that fall to the right by some degrees."""
    boxes = np.array([[[100, y], [900, y], [900, y + 30], [100, y + 30]] for y in range(200, 200 + 80 * count, 80)])
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (boxes - centre) @ turn + centre


@pytest.mark.parametrize("degrees", [-40, -12, -3, 0, 2, 15, 44])
def test_the_skew_of_lines_is_found(degrees: float) -> None:
    direction = direction_of(lines(degrees))
    assert (direction.is_upright, direction.degrees) == (False, pytest.approx(degrees, abs=0.01))


@pytest.mark.parametrize(("degrees", "skew"), [(90, 0), (93, 3), (-90, 0), (80, -10)])
def test_lines_that_run_upwards_are_found(degrees: float, skew: float) -> None:
    direction = direction_of(lines(degrees))
    assert (direction.is_upright, direction.degrees) == (True, pytest.approx(skew, abs=0.01))


def test_lines_in_all_directions_have_no_skew() -> None:
    scene = np.concatenate([lines(degrees, count=1) for degrees in (-40, -20, 0, 20, 40)])
    assert direction_of(scene).degrees == 0


def test_boxes_without_a_long_side_have_no_direction() -> None:
    assert direction_of(np.array([[[0.0, 0], [30, 0], [30, 28], [0, 28]]])).degrees == 0


@pytest.mark.parametrize("degrees", [0, 7, 90, 97, 180, -88])
def test_a_box_of_the_straightened_page_is_mapped_back_to_the_picture(degrees: float) -> None:
    picture = Image.new("L", (1000, 1000), 255)
    quads = lines(degrees)
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in quads[0]], fill=0)
    page, _ = straighten(picture, quads)
    dark = Image.eval(page.image, lambda value: 255 if value < 128 else 0).getbbox()
    assert dark is not None
    assert (dark[2] - dark[0], dark[3] - dark[1]) == (pytest.approx(800, abs=4), pytest.approx(30, abs=4))
    low, high = quads[0].min(axis=0), quads[0].max(axis=0)
    slack = 30
    assert page.box_in_picture(tuple(map(float, dark))) == pytest.approx((*low, *high), abs=slack)


def test_of_a_picture_with_little_text_the_part_with_the_text_is_kept() -> None:
    picture = Image.new("L", (4000, 3000), 128)
    page, _ = straighten(picture, lines(0, count=2))
    assert page.image.size == (pytest.approx(890, abs=4), pytest.approx(200, abs=4))
    assert page.box_in_picture((45, 45, 845, 75)) == pytest.approx((100, 200, 900, 230), abs=1)


def test_a_turned_page_knows_its_picture() -> None:
    page = Page.of(Image.new("L", (40, 20))).turned(1)
    assert page.image.size == (20, 40)
    assert page.box_in_picture((0, 0, 5, 10)) == pytest.approx((30, 0, 40, 5))


def test_a_line_is_unread_if_no_confident_word_covers_it() -> None:
    quads = lines(0, count=4)
    read = [RecognizedWord("word", 0.9, box=(105, 200 + 80 * row, 880, 228 + 80 * row)) for row in range(3)]
    guess = RecognizedWord("zz", 0.3, box=(105, 440, 880, 468))
    assert unread_share(quads, read) == pytest.approx(0.25)
    assert unread_share(quads, [*read, guess]) == pytest.approx(0.25)
    assert unread_share(quads, []) == 1
    assert unread_share(np.zeros((0, 4, 2)), []) == 0
