"""Plain pictures are told from photos."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from devtools.photos import ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET
from imago.ai.offline.vision.plainness import is_plain, is_texture

ROWS, COLUMNS = np.mgrid[0:300, 0:400]


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def clouds(roughness: float) -> np.ndarray:
    """Return noise whose amplitudes fall with the frequency, 0 to 1."""
    frequencies = np.hypot(np.fft.fftfreq(300)[:, None], np.fft.fftfreq(400))
    frequencies[0, 0] = 1
    noise = np.fft.fft2(np.random.default_rng(3).normal(size=(300, 400)))
    drawn = np.fft.ifft2(noise / frequencies**roughness).real
    return (drawn - drawn.min()) / np.ptp(drawn)


WEAVE = np.sin(ROWS * 0.7) + np.sin(COLUMNS * 0.7) + 3 * ((ROWS // 30 + COLUMNS // 30) % 2)
TEXTURES = {
    "cloth": picture(WEAVE[..., None] * np.array([30, 20, 25]) + np.array([60, 30, 90])),
    "coarse noise": picture(np.random.default_rng(2).normal(128, 60, (75, 100, 3)).repeat(4, 0).repeat(4, 1)),
    "stripes": picture((COLUMNS // 7 % 2)[..., None] * np.array([120, 60, 90]) + clouds(0.8)[..., None] * 40),
    "plaster": picture(np.repeat(clouds(0.3)[..., None] * 220, 3, 2)),
}


PLAIN = {
    "flat": picture(np.full((300, 400, 3), 90)),
    "one pixel": picture(np.full((1, 1, 3), 90)),
    "gradient": picture(np.stack([ROWS * 0.5, COLUMNS * 0.4, 200 - ROWS * 0.5], axis=2)),
    "squares": picture(((ROWS // 40 + COLUMNS // 40) % 2)[..., None] * np.array([200, 90, 30]) + 20),
    "noise": picture(np.random.default_rng(1).normal(144, 20, (300, 400, 3))),
    "clouds": picture(clouds(1.9)[..., None] * np.array([200, 120, 40]) + np.array([40, 100, 190])),
    "sunset": picture(
        (ROWS / 300)[..., None] * np.array([190, 100, 10]) + clouds(2.0)[..., None] * 60 + np.array([50, 40, 80])
    ),
    "bricks": Image.fromarray(data.brick()).convert("RGB"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_flat_colours_gradients_patterns_and_skies_are_plain(name: str) -> None:
    assert is_plain(PLAIN[name])


@pytest.mark.parametrize("path", [ASTRONAUT, CAT, CHINA, COFFEE, FLOWER, ROCKET], ids=lambda path: path.stem)
def test_photos_are_neither_plain_nor_textures(path) -> None:
    with Image.open(path) as photo:
        assert not is_plain(photo.convert("RGB"))
        assert not is_texture(photo.convert("RGB"))


@pytest.mark.parametrize("name", TEXTURES)
def test_what_looks_the_same_everywhere_is_a_texture(name: str) -> None:
    assert is_texture(TEXTURES[name])
