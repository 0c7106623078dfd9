"""Colours are named by the area that they cover."""

import numpy as np
import pytest
from PIL import Image

from imago.ai.offline.vision.colours import main_colours
from imago.core.images.search.names import FRENCH_COLOURS


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (80, 60)) -> Image.Image:
    return Image.new("RGB", size, colour)


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((128, 128, 128), "gray"),
        ((200, 20, 20), "red"),
        ((255, 140, 0), "orange"),
        ((90, 60, 30), "brown"),
        ((240, 220, 190), "beige"),
        ((250, 230, 40), "yellow"),
        ((30, 160, 60), "green"),
        ((30, 200, 200), "turquoise"),
        ((30, 60, 200), "blue"),
        ((120, 40, 180), "purple"),
        ((255, 100, 180), "pink"),
    ],
)
def test_a_flat_image_has_the_name_of_its_colour(colour: tuple[int, int, int], name: str) -> None:
    assert main_colours(flat(colour), None) == (name,)


def test_many_shades_of_a_colour_count_together() -> None:
    """Two reds of a fifth each are more than one gray of two fifths of which a part is black."""
    image = flat((200, 20, 20), (100, 50))
    for index, shade in enumerate([(230, 40, 40), (170, 10, 10), (150, 30, 30)]):
        image.paste(shade, (index * 20, 0, index * 20 + 20, 50))
    image.paste((120, 120, 120), (60, 0, 100, 50))
    assert main_colours(image, None) == ("red", "gray")


def test_the_subject_counts_more_than_its_surroundings() -> None:
    image = flat((30, 160, 60), (100, 100))
    image.paste((200, 20, 20), (30, 30, 75, 75))
    image.paste((30, 60, 200), (0, 80, 100, 100))
    assert main_colours(image, None)[0] == "green"
    assert main_colours(image, (0.3, 0.3, 0.75, 0.75)) == ("red", "green")


def test_shades_of_gray_are_black_and_white() -> None:
    ramp = np.tile(np.arange(0, 250, dtype=np.uint8)[:, None, None], (1, 100, 3))
    assert main_colours(Image.fromarray(ramp), None) == ("black and white",)


def test_every_colour_has_a_french_name() -> None:
    assert len(set(FRENCH_COLOURS.values())) == len(FRENCH_COLOURS)
