"""Drawn pages with a known text: one function for each kind."""

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.Image import Resampling, Transform

from devtools.evaluation.texts import GOODS, SENTENCES, SIGNS
from devtools.photos import CHINA, COFFEE, FLOWER

_FONTS = Path("/usr/share/fonts/truetype/dejavu")
_FACES = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
_BOLD = "DejaVuSans-Bold.ttf"
_PAPER = 250
# The colours of letters and plates.
_SIGN_COLOURS = (("white", "#14508c"), ("#141414", "#f5f5f0"), ("white", "#aa1919"), ("#141414", "#f5c81e"))

Drawn = tuple[Image.Image, str]
"""An image and the text that it shows."""


def _face(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONTS / name), size)


def _wrapped(words: Iterable[str], face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _paragraphs(rng: random.Random, language: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Return the lines of two to four paragraphs; an empty line separates them."""
    sentences = rng.sample(SENTENCES[language], rng.randint(4, 8))
    lines: list[str] = []
    for first in range(0, len(sentences), 2):
        lines += [*_wrapped(" ".join(sentences[first : first + 2]).split(), face, width), ""]
    return lines[:-1]


def _sheet(rng: random.Random, language: str, *, size: int = 0, ink: int = 20, paper: int = _PAPER) -> Drawn:
    face = _face(rng.choice(_FACES), size or rng.choice((24, 28, 32)))
    lines = _paragraphs(rng, language, face, 820)
    page = Image.new("L", (960, int(face.size * 1.4 * len(lines)) + 160), paper)
    ImageDraw.Draw(page).multiline_text((70, 80), "\n".join(lines), font=face, fill=ink, spacing=face.size * 0.25)
    return page, "\n".join(lines)


def _rotated(page: Image.Image, degrees: float) -> Image.Image:
    return page.rotate(degrees, expand=True, fillcolor=_PAPER, resample=Resampling.BICUBIC)


def _grain(image: Image.Image, *, noise: float, blur: float) -> Image.Image:
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), dtype=float)
    grains = np.random.default_rng(7).normal(0, noise, soft.shape)
    return Image.fromarray(np.clip(soft + grains, 0, 255).astype(np.uint8))


def clean(rng: random.Random, language: str) -> Drawn:
    """A page as software renders it."""
    return _sheet(rng, language)


def skewed(rng: random.Random, language: str) -> Drawn:
    """A page that is turned by 2 to 15 degrees."""
    page, text = _sheet(rng, language)
    return _rotated(page, rng.choice((-1, 1)) * rng.uniform(2, 15)), text


def turned(rng: random.Random, language: str) -> Drawn:
    """A page on its side or upside down."""
    page, text = _sheet(rng, language)
    return _rotated(page, rng.choice((90, 180, 270))), text


def low_contrast(rng: random.Random, language: str) -> Drawn:
    """Gray letters on gray paper."""
    paper = rng.randint(150, 220)
    return _sheet(rng, language, paper=paper, ink=paper - 40)


def white_on_dark(rng: random.Random, language: str) -> Drawn:
    """White letters on dark paper."""
    return _sheet(rng, language, paper=rng.randint(10, 60), ink=rng.randint(200, 255))


def small(rng: random.Random, language: str) -> Drawn:
    """Letters of 15 to 19 pixels."""
    return _sheet(rng, language, size=rng.randint(15, 19))


def phone(rng: random.Random, language: str) -> Drawn:
    """A photo of a page on a desk: perspective, uneven light, blur and noise."""
    page, text = _sheet(rng, language)
    width, height = page.width * 1.2, page.height * 1.2
    # The corners of the photo in the coordinates of the page: upper left, lower left, lower right, upper right.
    corners = ((-0.1, -0.1), (-0.1, 1.1), (1.1, 1.1), (1.1, -0.1))
    moved = [(x + rng.uniform(-0.04, 0.04), y + rng.uniform(-0.04, 0.04)) for x, y in corners]
    quad = [value for x, y in moved for value in (x * page.width, y * page.height)]
    photo = page.transform((int(width), int(height)), Transform.QUAD, quad, Resampling.BICUBIC, fillcolor=90)
    light = np.linspace(rng.uniform(0.7, 1), rng.uniform(0.7, 1), photo.width)[None, :]
    return _grain(Image.fromarray((np.asarray(photo) * light).astype(np.uint8)), noise=4, blur=0.8), text


def two_columns(rng: random.Random, language: str) -> Drawn:
    """A page of two columns, of which the left one comes first."""
    face = _face(rng.choice(_FACES), 24)
    columns = ["\n".join(_paragraphs(rng, language, face, 480)) for _ in range(2)]
    rows = max(column.count("\n") for column in columns) + 1
    page = Image.new("L", (1240, int(face.size * 1.45 * rows) + 160), _PAPER)
    for left, column in zip((80, 660), columns, strict=True):
        ImageDraw.Draw(page).multiline_text((left, 80), column, font=face, fill=20, spacing=face.size * 0.25)
    return page, "\n".join(columns)


def table(rng: random.Random, language: str) -> Drawn:
    """A ruled table of goods with their prices, row by row."""
    rows = [(good, str(rng.randint(1, 40)), f"{rng.uniform(1, 50):.2f}") for good in rng.sample(GOODS[language], 6)]
    face = _face(rng.choice(_FACES), 26)
    page = Image.new("L", (760, 60 + 52 * len(rows)), 255)
    draw = ImageDraw.Draw(page)
    for index, row in enumerate(rows):
        top = 30 + 52 * index
        draw.line((20, top - 6, 740, top - 6), fill=120, width=2)
        for left, cell in zip((40, 400, 560), row, strict=True):
            draw.text((left, top), cell, font=face, fill=15)
    return page, "\n".join(" ".join(row) for row in rows)


def receipt(rng: random.Random, language: str) -> Drawn:
    """A narrow print on noisy paper, slightly turned."""
    goods = [(good, f"{rng.uniform(1, 20):.2f}") for good in rng.sample(GOODS[language], 8)]
    lines = [f"{good:<20}{price:>8}" for good, price in goods]
    lines.append(f"{'TOTAL':<20}{sum(float(price) for _, price in goods):>8.2f}")
    face = _face("DejaVuSansMono.ttf", 22)
    page = Image.new("L", (int(face.getlength(lines[0])) + 80, 60 + 32 * len(lines)), 240)
    ImageDraw.Draw(page).multiline_text((40, 30), "\n".join(lines), font=face, fill=60, spacing=6)
    page = page.rotate(rng.uniform(-2, 2), expand=True, fillcolor=240, resample=Resampling.BICUBIC)
    return _grain(page, noise=12, blur=0.6), "\n".join(lines)


def sign(rng: random.Random, language: str) -> Drawn:
    """A sign in a photo."""
    text = rng.choice(SIGNS[language])
    face = _face(_BOLD, rng.randint(32, 52))
    ink, plate = rng.choice(
        (("white", "#14508c"), ("#141414", "#f5f5f0"), ("white", "#aa1919"), ("#141414", "#f5c81e"))
    )
    board = Image.new("RGBA", (int(face.getlength(text)) + 60, int(face.size * 1.9)), plate)
    ImageDraw.Draw(board).text((30, face.size * 0.3), text, font=face, fill=ink)
    board = board.rotate(rng.uniform(-7, 7), expand=True, resample=Resampling.BICUBIC)
    photo = Image.open(rng.choice((CHINA, COFFEE, FLOWER))).convert("RGB").resize((900, 600))
    photo.paste(board, (rng.randint(0, max(1, 900 - board.width)), rng.randint(0, 600 - board.height)), board)
    return _grain(photo, noise=4, blur=0.6), text


KINDS: Mapping[str, Callable[[random.Random, str], Drawn]] = {
    "clean": clean,
    "skewed 2-15°": skewed,
    "turned": turned,
    "low contrast": low_contrast,
    "white on dark": white_on_dark,
    "small": small,
    "phone": phone,
    "two columns": two_columns,
    "table": table,
    "receipt": receipt,
    "sign in a photo": sign,
}
