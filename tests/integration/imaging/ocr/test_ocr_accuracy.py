"""OCR on pages with a known text, and on photographs without text."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tesserocr
from PIL import Image, ImageDraw, ImageFont

from bench.statistics import character_error_rate
from devtools.photos import CAT, CHINA, COFFEE, FLOWER, ROCKET, corpus_files
from imago.core.images.results import OcrReading
from imago.core.jobs.failures import PermanentFailure
from imago.imaging.ocr.documents import PageLimits, read_document
from imago.imaging.ocr.options import OcrOptions
from imago.imaging.ocr.tesseract import read_words, set_halved_image
from imago.imaging.ocr.trained_data import tessdata
from tests.support.pages import ENGLISH, FONT, FRENCH, page

LANGUAGES = ("fra", "eng")


@pytest.fixture(autouse=True)
def _font() -> None:
    if not FONT.exists():
        pytest.skip("the font DejaVu is not installed (`make setup` installs fonts-dejavu-core)")


def read(image: Image.Image | Path, folder: Path, *, engine: str = "auto", half_scale: bool = False) -> OcrReading:
    source, prepared = folder / "source.png", folder / "page.pgm"
    if isinstance(image, Path):
        source = image
    else:
        image.save(source)
    options = OcrOptions(LANGUAGES, engine, half_scale=half_scale)
    return read_document(source, prepared, options=options, limits=PageLimits(4700, 50_000_000, 1, 60)).chosen


@pytest.mark.parametrize("engine", ["tesserocr", "pytesseract", "rapidocr"])
@pytest.mark.parametrize(("text", "language"), [(FRENCH, "fr"), (ENGLISH, "en")])
def test_a_clean_page_is_read_with_less_than_three_percent_of_errors(
    tmp_path: Path, engine: str, text: str, language: str
) -> None:
    reading = read(page(text), tmp_path, engine=engine)
    rate = character_error_rate(text, reading.text)
    assert rate < 0.03, f"{rate:.1%}: {reading.text}"
    assert (reading.has_text, reading.language, reading.engine) == (True, language, engine)
    assert reading.confidence > 0.8


@pytest.fixture
def engine() -> Iterator[tesserocr.PyTessBaseAPI]:
    with tesserocr.PyTessBaseAPI(path=f"{tessdata(None)}/", lang="fra+eng", psm=tesserocr.PSM.AUTO) as opened:
        yield opened


@pytest.mark.parametrize("text", [FRENCH, ENGLISH], ids=["fr", "en"])
def test_large_letters_are_read_at_half_scale_with_few_more_errors(
    tmp_path: Path, engine: tesserocr.PyTessBaseAPI, text: str
) -> None:
    image = page(text, scale=2)
    assert set_halved_image(engine, image)
    full, half = (character_error_rate(text, read(image, tmp_path, half_scale=scaled).text) for scaled in (False, True))
    assert half - full <= 0.005, f"{full:.2%} of errors at full scale, {half:.2%} at half"


def test_one_small_line_keeps_a_page_at_full_scale(tmp_path: Path, engine: tesserocr.PyTessBaseAPI) -> None:
    image = page(FRENCH, scale=2)
    note = "Les photographies de cette page sont de Marie Dubois, Marseille, mars 2008."
    ImageDraw.Draw(image).text((200, image.height - 60), note, font=ImageFont.truetype(str(FONT), 22), fill=20)
    assert not set_halved_image(engine, image)
    assert "Marie Dubois" in read(image, tmp_path, half_scale=True).text


def test_a_small_page_is_read_at_full_scale(engine: tesserocr.PyTessBaseAPI) -> None:
    assert not set_halved_image(engine, page(FRENCH))


def test_accents_are_read(tmp_path: Path) -> None:
    text = read(page(FRENCH), tmp_path).text
    for word in ("s'éveille", "pêcheurs", "grillé", "façade", "musée"):
        assert word in text.replace("’", "'"), text


@pytest.mark.parametrize("photo", [CAT, COFFEE, ROCKET, CHINA, FLOWER], ids=lambda path: path.name)
@pytest.mark.parametrize("engine", ["auto", "tesserocr"])
def test_a_photograph_without_text_has_none(tmp_path: Path, photo: Path, engine: str) -> None:
    reading = read(photo, tmp_path, engine=engine)
    assert (reading.has_text, reading.text) == (False, ""), reading


# These do contain text: a title page cut from a magazine, a film poster, a caption.
WITH_TEXT = {"image00971.jpg", "no_exif.jpg", "Jobagent.tiff"}


@pytest.mark.parametrize("engine", ["auto", "tesserocr"])
def test_no_text_is_found_in_camera_photos_without_text(tmp_path: Path, engine: str) -> None:
    photos = [
        path for path in corpus_files("jpg/*.jpg", "jpg/exif-org/*.jpg", "jpg/gps/*.jpg") if path.name not in WITH_TEXT
    ]
    assert len(photos) > 30
    readings = {path.name: read(path, tmp_path, engine=engine) for path in photos}
    assert {name: reading.text for name, reading in readings.items() if reading.has_text} == {}


def test_a_sign_with_one_word_is_read(tmp_path: Path) -> None:
    sign = page("\n\n          BOULANGERIE", noise=8)
    assert read(sign, tmp_path).text == "BOULANGERIE"


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (3, 900)])
def test_a_page_of_an_unusual_size_is_read_as_empty(tmp_path: Path, size: tuple[int, int]) -> None:
    assert not read(Image.new("L", size, 255), tmp_path).has_text


def test_an_error_names_the_language_that_is_not_installed() -> None:
    with pytest.raises(PermanentFailure) as failure:
        read_words(Image.new("L", (10, 10)), OcrOptions(("tlh",), "tesserocr"))
    assert (failure.value.code, "tlh" in failure.value.text) == ("ocr-language-missing", True)


def test_tesseract_runs_one_thread() -> None:
    assert os.environ["OMP_THREAD_LIMIT"] == "1"


async def test_a_page_can_be_read_in_a_thread_of_an_event_loop(tmp_path: Path) -> None:
    assert (await asyncio.to_thread(read, page(ENGLISH), tmp_path)).has_text
