"""Pages that look scanned, with a known text."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf")

FRENCH = """Le vieux port de Marseille s'éveille à l'aube. Les pêcheurs rentrent déjà,
leurs filets pleins de poissons argentés. Une odeur de café chaud et de pain
grillé flotte près des quais, où l'été n'en finit pas. Où êtes-vous allée hier ?
La façade du musée, restaurée en 1998, a coûté 12 500 euros à la mairie."""

ENGLISH = """The old harbour wakes before sunrise. Fishermen come home with silver nets,
and the smell of coffee drifts along the quays. Invoice number 20431 was paid
on the third of March by bank transfer. Please keep this receipt for your
records; goods may be returned within thirty days of purchase."""


def page(text: str, *, skew: float = 0.5, noise: float = 4.0, scale: int = 1) -> Image.Image:
    """Return a page of text that is slightly rotated, blurred and noisy, like a scan; letters are 28 px high."""
    font = ImageFont.truetype(str(FONT), 28 * scale)
    image = Image.new("L", (1400 * scale, 460 * scale), 248)
    at = 40 * scale, 40 * scale
    ImageDraw.Draw(image).multiline_text(at, text, font=font, fill=25, spacing=14 * scale)
    image = image.rotate(skew, resample=Image.Resampling.BICUBIC, fillcolor=248).filter(ImageFilter.GaussianBlur(0.6))
    grain = np.random.default_rng(7).normal(0, noise, (image.height, image.width))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
