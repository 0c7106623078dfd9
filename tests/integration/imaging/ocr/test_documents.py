"""The pages of TIFF files are read as one text, and every way of storing a page is read."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, TiffImagePlugin

from imago.core.images.results import OcrReading
from imago.imaging.ocr.documents import PageLimits, read_document
from imago.imaging.ocr.options import OcrOptions
from tests.support.pages import FONT
from tests.support.quadrants import turned

NUMBERS = ("Page one of three", "The second page", "Third and last page")
SUBFILE_TYPE, ORIENTATION = 254, 274


@pytest.fixture(autouse=True)
def _font() -> None:
    if not FONT.exists():
        pytest.skip("the font DejaVu is not installed (`make setup` installs fonts-dejavu-core)")


def page(text: str) -> Image.Image:
    image = Image.new("L", (700, 120), 255)
    ImageDraw.Draw(image).text((30, 30), text, 0, ImageFont.truetype(str(FONT), 40))
    return image


def tiff(pages: Sequence[Image.Image], **options: object) -> bytes:
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:], **options)
    return buffer.getvalue()


def read(data: bytes, *, pages: int = 20, seconds: float = 60) -> OcrReading:
    limits = PageLimits(max_side=4700, max_pixels=10**7, max_pages=pages, seconds=seconds)
    return read_document(io.BytesIO(data), io.BytesIO(), options=OcrOptions(("eng",), "auto"), limits=limits).chosen


def test_all_pages_are_read_in_their_order() -> None:
    reading = read(tiff([page(text).convert("1") for text in NUMBERS], compression="group4"))
    assert reading.text.split("\n\n") == list(NUMBERS)
    assert (reading.pages, reading.has_text, reading.truncated) == (3, True, False)


def test_no_more_pages_are_read_than_allowed() -> None:
    reading = read(tiff([page(text) for text in NUMBERS]), pages=2)
    assert reading.text.split("\n\n") == list(NUMBERS[:2])
    assert reading.pages == 2


def test_no_page_begins_after_the_time_is_up() -> None:
    reading = read(tiff([page(text) for text in NUMBERS]), seconds=0)
    assert (reading.text, reading.pages) == (NUMBERS[0], 1)


def test_a_page_without_text_adds_nothing() -> None:
    blank = Image.new("L", (700, 120), 255)
    reading = read(tiff([blank, page(NUMBERS[1]), blank]))
    assert (reading.text, reading.pages) == (NUMBERS[1], 3)


def test_a_smaller_copy_of_a_page_is_not_read_again() -> None:
    copy = page(NUMBERS[0])
    copy.encoderinfo = {"tiffinfo": {SUBFILE_TYPE: 1}}  # type: ignore[attr-defined]
    reading = read(tiff([page(NUMBERS[0]), copy, page(NUMBERS[1])]))
    assert reading.text.split("\n\n") == list(NUMBERS[:2])
    assert reading.pages == 2


def test_a_page_that_cannot_be_decoded_does_not_cost_the_others() -> None:
    data = tiff([page(text) for text in NUMBERS], compression="tiff_adobe_deflate")
    with Image.open(io.BytesIO(data)) as image:
        image.seek(1)
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        start = image.tag_v2[273][0]
    broken = data[:start] + b"\xff" * 40 + data[start + 40 :]
    assert read(broken).text.split("\n\n") == [NUMBERS[0], NUMBERS[2]]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_a_page_is_read_however_it_is_turned(kind: str, orientation: int) -> None:
    stored = Image.fromarray(turned(np.array(page(NUMBERS[1])), orientation))
    buffer = io.BytesIO()
    if kind == "TIFF":
        stored.save(buffer, kind, tiffinfo={ORIENTATION: orientation}, compression="tiff_lzw")
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored.save(buffer, kind, quality=90, exif=exif)
    assert read(buffer.getvalue()).text == NUMBERS[1]


def test_a_cut_page_is_read_as_far_as_it_goes() -> None:
    tall = Image.new("L", (700, 1200), 255)
    tall.paste(page(NUMBERS[0]), (0, 0))
    tall.paste(page(NUMBERS[2]), (0, 1000))
    buffer = io.BytesIO()
    tall.save(buffer, "PNG", compress_level=0)
    reading = read(buffer.getvalue()[: buffer.tell() // 2])
    assert (reading.text, reading.truncated) == (NUMBERS[0], True)


def test_a_photo_without_text_is_one_page() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1600, 1200), (90, 120, 60)).save(buffer, "JPEG")
    reading = read(buffer.getvalue())
    assert (reading.has_text, reading.pages, reading.engine) == (False, 1, "rapidocr")
