"""Pages that are skewed, turned, in columns or tables, receipts, signs in photos, and photos without text."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from bench.statistics import character_error_rate
from imago.core.images.ocr.result import RecognizedWord
from imago.imaging.ocr import page as page_module
from imago.imaging.ocr.documents import DocumentReading, PageLimits, read_document
from imago.imaging.ocr.options import OcrOptions
from tests.support import page_kinds
from tests.support.pages import ENGLISH, FONT, FRENCH


@pytest.fixture(autouse=True)
def _font() -> None:
    if not FONT.exists():
        pytest.skip("the font DejaVu is not installed (`make setup` installs fonts-dejavu-core)")


def read(image: Image.Image, *, format: str = "PNG") -> DocumentReading:
    buffer = io.BytesIO()
    image.save(buffer, format)
    limits = PageLimits(max_side=4700, max_pixels=10**8, max_pages=1, seconds=60)
    return read_document(buffer, io.BytesIO(), options=OcrOptions(("fra", "eng"), "auto"), limits=limits)


def scanned(text: str, degrees: float) -> Image.Image:
    return page_kinds.grain(page_kinds.skewed(page_kinds.sheet(text), degrees))


@pytest.mark.parametrize("degrees", [-15, -8, -5, -4, -3, 2, 3, 4, 5, 8, 12, 15])
def test_a_skewed_page_is_read(degrees: float) -> None:
    text = FRENCH if degrees < 0 else ENGLISH
    reading = read(scanned(text, degrees)).chosen
    assert character_error_rate(text, reading.text) <= 0.01, reading.text
    assert reading.confidence > 0.9


@pytest.mark.parametrize("degrees", [90, 180, 270, 93, 177, 265])
def test_a_turned_page_is_read(degrees: float) -> None:
    reading = read(scanned(ENGLISH, degrees)).chosen
    assert character_error_rate(ENGLISH, reading.text) <= 0.01, reading.text


@pytest.mark.parametrize("kind", [page_kinds.columns, page_kinds.table, page_kinds.receipt])
def test_lines_are_read_in_their_order(kind: Callable[[], tuple[Image.Image, str]]) -> None:
    image, text = kind()
    reading = read(image).chosen
    assert character_error_rate(text, reading.text) <= 0.03, reading.text


def test_white_letters_on_a_dark_page_are_read() -> None:
    reading = read(page_kinds.grain(page_kinds.sheet(ENGLISH, ink=235, paper=30))).chosen
    assert character_error_rate(ENGLISH, reading.text) <= 0.02


def test_small_pale_letters_are_found_and_read() -> None:
    text = "\n".join(["Les horaires du musée changent en octobre", "Fermé le lundi", *[""] * 24])
    page = page_kinds.sheet(text, size=22, ink=145, paper=177)
    canvas = Image.new("L", (1000, 1300), 177)
    canvas.paste(page, (0, 0))
    reading = read(page_kinds.grain(canvas, noise=0)).chosen
    assert character_error_rate(text, reading.text) <= 0.02, reading.text


@pytest.mark.parametrize("photo", page_kinds.PHOTOS, ids=lambda path: path.stem)
@pytest.mark.parametrize("text", ["BOULANGERIE", "GARE DU NORD"])
def test_a_sign_in_a_photo_is_read_and_its_words_have_boxes(photo: Path, text: str) -> None:
    image = page_kinds.sign(text, photo=photo)
    reading = read(image, format="JPEG")
    assert reading.chosen.text == text
    assert reading.result.words is not None
    assert f'[{image.width},{image.height},[["{text.split()[0]}",' in reading.result.words


@pytest.mark.parametrize(
    "picture",
    [
        Image.linear_gradient("L").resize((1600, 1200)).convert("RGB"),
        *(Image.open(photo).convert("RGB") for photo in page_kinds.PHOTOS),
    ],
    ids=["gradient", *(photo.stem for photo in page_kinds.PHOTOS)],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_picture_without_lines_of_text_is_not_read(
    picture: Image.Image, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a picture without lines of text was read")

    monkeypatch.setattr(page_module.tesseract, "read_words", fail)
    monkeypatch.setattr(page_module.paddle, "read_words", fail)
    reading = read(picture, format=format)
    assert (reading.has_lines, reading.chosen.has_text, reading.chosen.text) == (False, False, "")


@pytest.mark.parametrize("degrees", [0, 180])
def test_a_word_that_fills_the_picture_is_read(degrees: int) -> None:
    picture = Image.new("RGB", (900, 420), "white")
    ImageDraw.Draw(picture).text((450, 210), "SALE", "black", ImageFont.truetype(FONT, 300), anchor="mm")
    assert read(picture.rotate(degrees)).chosen.text == "SALE"


def test_a_reading_that_the_other_engine_does_not_confirm_is_not_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    guess = [RecognizedWord("BOUL4NGER1E", 0.4, box=(0, 0, 9, 9))]
    monkeypatch.setattr(page_module.tesseract, "read_words", lambda *_: guess)
    reading = read(page_kinds.sign("BOULANGERIE"))
    assert (reading.chosen.text, reading.chosen.engine) == ("BOULANGERIE", "rapidocr")
    assert 0.8 < reading.chosen.confidence < 0.9


def test_a_page_that_lost_lines_is_not_sure_of_itself() -> None:
    text = scanned(ENGLISH, 0)
    words = page_module.read_page(text, _quads(text), OcrOptions(("eng",), "auto")).readings[0]
    assert words.unread == 0
    half = [word for word in words.words if word.box and word.box[1] < text.height / 2]
    assert page_module.unread_share(_quads(text), half) > 0.3


def _quads(image: Image.Image) -> page_module.Quads:
    return page_module.find_lines_again(image)


def test_without_the_detector_no_line_counts_as_found() -> None:
    buffer = io.BytesIO()
    Image.new("L", (400, 300), 255).save(buffer, "PNG")
    limits = PageLimits(max_side=4700, max_pixels=10**8, max_pages=1, seconds=60)
    reading = read_document(buffer, io.BytesIO(), options=OcrOptions(("eng",), "tesserocr"), limits=limits)
    assert (reading.has_lines, reading.chosen.engine) == (False, "tesserocr")
