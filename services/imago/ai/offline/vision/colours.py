"""Names of colours in French and English."""

import colorsys
from collections.abc import Iterable

from imago.core.images.vision import ColourShare

# Only colours that cover this share of the image are named.
MIN_SHARE = 0.2

_FRENCH = {
    "black": "noir",
    "white": "blanc",
    "gray": "gris",
    "red": "rouge",
    "orange": "orange",
    "brown": "marron",
    "beige": "beige",
    "yellow": "jaune",
    "green": "vert",
    "turquoise": "turquoise",
    "blue": "bleu",
    "purple": "violet",
    "pink": "rose",
}

# The largest hue in degrees of each name, for colours that are neither gray nor brown.
_HUES = (
    (15, "red"),
    (42, "orange"),
    (66, "yellow"),
    (165, "green"),
    (195, "turquoise"),
    (255, "blue"),
    (290, "purple"),
    (340, "pink"),
    (360, "red"),
)


def colour_name(colour: ColourShare) -> str:
    """Return the English name of a colour."""
    hue, saturation, value = colorsys.rgb_to_hsv(colour.red / 255, colour.green / 255, colour.blue / 255)
    if value < 0.2:
        return "black"
    if saturation < 0.14:
        return "white" if value > 0.85 else "gray"
    degrees = hue * 360
    warm = degrees < 55 or degrees > 345
    if warm and saturation < 0.4 and value > 0.7:
        return "beige"
    if warm and (value < 0.65 or saturation < 0.4) and degrees > 8:
        return "brown"
    return next(name for limit, name in _HUES if degrees <= limit)


def main_colour_names(colours: Iterable[ColourShare], language: str) -> tuple[str, ...]:
    """Return the names of at most two colours that cover most of an image, the largest first."""
    shares: dict[str, float] = {}
    for colour in colours:
        name = colour_name(colour)
        shares[name] = shares.get(name, 0.0) + colour.share
    named = [name for name, share in sorted(shares.items(), key=lambda pair: -pair[1]) if share >= MIN_SHARE][:2]
    return tuple(_FRENCH[name] if language == "fr" else name for name in named)


def is_black_and_white(colours: Iterable[ColourShare]) -> bool:
    """Return whether an image has almost no colour."""
    spread = [max(c.red, c.green, c.blue) - min(c.red, c.green, c.blue) for c in colours]
    return bool(spread) and max(spread) <= 10
