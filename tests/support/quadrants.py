"""Pictures of four colours, which show how a picture was turned and what became of its colours."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

Colour = tuple[int, ...]

RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 200, 20), (20, 20, 220), (230, 210, 30)
COLOURS = (RED, GREEN, BLUE, YELLOW)
SIZE = (96, 64)

# How a file with an orientation stores an upright picture: whether rows and columns are exchanged, and which of the two
# run backwards then (EXIF 2.32, section 4.6.4: where the first row and the first column are seen).
_STORED = {
    1: (False, 1, 1),
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, -1, 1),
    7: (True, -1, -1),
    8: (True, 1, -1),
}


def quadrants(colours: Sequence[Colour] = COLOURS, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return an array (height, width, channels) of upper left, upper right, lower left and lower right colours."""
    width, height = size
    pixels = np.empty((height, width, len(colours[0])), np.int64)
    for index, colour in enumerate(colours):
        rows = slice(None, height // 2) if index < 2 else slice(height // 2, None)
        columns = slice(None, width // 2) if index % 2 == 0 else slice(width // 2, None)
        pixels[rows, columns] = colour
    return pixels


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels as a file with the orientation stores them."""
    exchanged, rows, columns = _STORED[orientation]
    return (pixels.swapaxes(0, 1) if exchanged else pixels)[::rows, ::columns]


def middles(image: Image.Image) -> list[Colour]:
    """Return the colours in the middles of the four quarters, as RGB or RGBA."""
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    width, height = image.size
    places = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
    return [tuple(image.getpixel(place)) for place in places]  # type: ignore[arg-type]


def furthest(found: Sequence[Colour], wanted: Sequence[Colour]) -> int:
    """Return the largest difference of a channel."""
    return max(abs(one - other) for pair in zip(found, wanted, strict=True) for one, other in zip(*pair, strict=True))
