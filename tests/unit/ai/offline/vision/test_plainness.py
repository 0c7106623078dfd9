"""Plain pictures are told from photos."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from devtools.photos import ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET
from imago.ai.offline.vision.plainness import is_plain

ROWS, COLUMNS = np.mgrid[0:300, 0:400]


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


PLAIN = {
    "flat": picture(np.full((300, 400, 3), 90)),
    "one pixel": picture(np.full((1, 1, 3), 90)),
    "gradient": picture(np.stack([ROWS * 0.5, COLUMNS * 0.4, 200 - ROWS * 0.5], axis=2)),
    "squares": picture(((ROWS // 40 + COLUMNS // 40) % 2)[..., None] * np.array([200, 90, 30]) + 20),
    "noise": picture(np.random.default_rng(1).normal(144, 20, (300, 400, 3))),
    "bricks": Image.fromarray(data.brick()).convert("RGB"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_flat_colours_gradients_and_patterns_are_plain(name: str) -> None:
    assert is_plain(PLAIN[name])


@pytest.mark.parametrize("path", [ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET], ids=lambda path: path.stem)
def test_photos_are_not_plain(path) -> None:
    with Image.open(path) as photo:
        assert not is_plain(photo.convert("RGB"))
