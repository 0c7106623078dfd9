"""Images of many kinds with a known text: skewed and turned pages, columns, tables, receipts, signs in photos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from devtools.photos import CHINA, COFFEE, FLOWER

_FONTS = Path("/usr/share/fonts/truetype/dejavu")
SANS, MONO, BOLD = (_FONTS / f"DejaVu{name}.ttf" for name in ("Sans", "SansMono", "Sans-Bold"))

LEFT = """The museum opens at nine.
Tickets are sold at the
entrance until half past
five. Children under twelve
do not pay, and students
pay half of the price."""
RIGHT = """On the second floor you
find maps and paintings of
the eighteenth century. A
guided tour takes about
forty minutes and starts
every hour in the hall."""

ROWS = (
    ("Article", "Quantity", "Price"),
    ("Coffee beans", "12", "84.00"),
    ("Paper filters", "40", "16.50"),
    ("Sugar, brown", "7", "21.35"),
    ("Total", "59", "121.85"),
)

RECEIPT = """LIBRAIRIE DU PORT
12 quai des Brumes, Nantes
TEL 02 40 55 18 72
TICKET 004512
CAHIER A5 LIGNE 3,90
STYLO BLEU 1,20
ATLAS DE POCHE 14,50
TOTAL TTC 19,60
CARTE BANCAIRE 19,60
MERCI DE VOTRE VISITE"""


def font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of the given size in pixels."""
    return ImageFont.truetype(str(path), size)


def grain(image: Image.Image, *, noise: float = 4.0, blur: float = 0.6) -> Image.Image:
    """Return the image as a scanner or a camera sees it: blurred and noisy."""
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)))
    grains = np.random.default_rng(7).normal(0, noise, soft.shape)
    return Image.fromarray(np.clip(soft + grains, 0, 255).astype(np.uint8))


def sheet(text: str, *, size: int = 28, ink: int = 25, paper: int = 248, margin: int = 60) -> Image.Image:
    """Return a gray page that fits a text."""
    face = font(SANS, size)
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    _, _, width, height = probe.multiline_textbbox((0, 0), text, font=face, spacing=size // 2)
    page = Image.new("L", (int(width) + 2 * margin, int(height) + 2 * margin), paper)
    ImageDraw.Draw(page).multiline_text((margin, margin), text, font=face, fill=ink, spacing=size // 2)
    return page


def skewed(page: Image.Image, degrees: float, *, paper: int = 248) -> Image.Image:
    """Return a page turned by a few degrees counterclockwise, with all of its corners."""
    return page.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor=paper, expand=True)


def columns(left: str = LEFT, right: str = RIGHT) -> tuple[Image.Image, str]:
    """Return a page of two columns, and its text: the left column before the right one."""
    pages = [sheet(text, size=26, margin=40) for text in (left, right)]
    whole = Image.new("L", (sum(page.width for page in pages), max(page.height for page in pages)), 248)
    whole.paste(pages[0], (0, 0))
    whole.paste(pages[1], (pages[0].width, 0))
    return grain(whole), f"{left}\n{right}"


def table(rows: Sequence[Sequence[str]] = ROWS) -> tuple[Image.Image, str]:
    """Return a table with rules, and its text row by row."""
    width, height = 300, 60
    page = Image.new("L", (width * len(rows[0]) + 80, height * len(rows) + 80), 250)
    draw = ImageDraw.Draw(page)
    for number, row in enumerate(rows):
        top = 40 + height * number
        draw.line((40, top, page.width - 40, top), fill=120, width=2)
        for index, cell in enumerate(row):
            draw.text((60 + width * index, top + 14), cell, font=font(SANS, 28), fill=30)
    return grain(page), "\n".join(" ".join(row) for row in rows)


def receipt(text: str = RECEIPT) -> tuple[Image.Image, str]:
    """Return a receipt from a thermal printer on a dark table, and its text."""
    lines = text.split("\n")
    paper = Image.new("L", (520, 44 * len(lines) + 80), 226)
    draw = ImageDraw.Draw(paper)
    for number, line in enumerate(lines):
        words, _, price = line.rpartition(" ")
        top = 40 + 44 * number
        if words and "," in price:
            draw.text((30, top), words, font=font(MONO, 24), fill=90)
            draw.text((490, top), price, font=font(MONO, 24), fill=90, anchor="ra")
        else:
            draw.text((260, top), line, font=font(MONO, 24), fill=90, anchor="ma")
    desk = Image.new("L", (paper.width + 240, paper.height + 200), 70)
    mask = skewed(Image.new("L", paper.size, 255), 2, paper=0)
    desk.paste(skewed(paper, 2, paper=70), (80, 60), mask)
    return grain(desk, noise=6, blur=0.8), text


def sign(text: str = "BOULANGERIE", *, photo: Path = CHINA, angle: float = 4, size: int = 44) -> Image.Image:
    """Return a photo with a sign on it."""
    picture = Image.open(photo).convert("RGB")
    face = font(BOLD, size)
    _, _, width, height = ImageDraw.Draw(picture).multiline_textbbox((0, 0), text, font=face)
    board = Image.new("RGB", (int(width) + 40, int(height) + 30), (24, 70, 140))
    ImageDraw.Draw(board).multiline_text((20, 10), text, font=face, fill=(245, 245, 235), align="center")
    turned = board.convert("RGBA").rotate(angle, resample=Image.Resampling.BICUBIC, expand=True)
    picture.paste(turned, (picture.width // 6, picture.height // 4), turned)
    return grain(picture, noise=3)


PHOTOS = (CHINA, COFFEE, FLOWER)
