"""The CPU limit of a task grows with the pixels and pages that it works on."""

from types import SimpleNamespace
from typing import Any

import pytest

from imago.settings import Settings
from imago.worker.stages.cpu import cpu_to_decode, cpu_to_read

SETTINGS = Settings(ocr_max_pages=10, ocr_engine="tesserocr")


def image(megapixels: float, frames: int = 1) -> Any:
    return SimpleNamespace(pixels=int(megapixels * 1e6), frames=frames)


@pytest.mark.parametrize(("megapixels", "seconds"), [(0.01, 5.01), (12, 17), (50, 55)])
def test_decoding_has_a_second_per_megapixel(megapixels: float, seconds: float) -> None:
    assert cpu_to_decode(int(megapixels * 1e6), SETTINGS) == pytest.approx(seconds)


def test_reading_has_more_for_each_page_as_it_is_read() -> None:
    one = cpu_to_read(image(8.7), SETTINGS)
    assert one == pytest.approx(5 + 8.7 * 7)
    assert cpu_to_read(image(8.7, frames=3), SETTINGS) == pytest.approx(3 * one)
    assert cpu_to_read(image(8.7, frames=50), SETTINGS) == pytest.approx(10 * one)
    # A page is scaled down before it is read.
    assert cpu_to_read(image(100), SETTINGS) == pytest.approx(5 + 100 + 6 * 4.7**2)


def test_a_second_engine_has_its_own_time() -> None:
    both = Settings(ocr_max_pages=10, ocr_engine="auto")
    assert cpu_to_read(image(8.7), both) == pytest.approx(cpu_to_read(image(8.7), SETTINGS) + 20)
